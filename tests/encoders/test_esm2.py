"""ESM-2 against two oracles with the same random weights: fair-esm's own class, transformers'."""

import json
from argparse import Namespace
from pathlib import Path

import esm
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import EsmConfig, EsmModel

from virnuc_dask.encoders.attention import inverse_frequencies
from virnuc_dask.encoders.encoder import Placement, load_encoder
from virnuc_dask.encoders.esm2 import TOKENS, Esm2, token_ids
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.importing.encoders import import_esm2
from virnuc_dask.modelsets.manifest import read_info

SIZES = (6, 320, 20)  # the published 8M
ALPHABET = esm.Alphabet.from_architecture("ESM-1b")
RESIDUES = np.array(list("ACDEFGHIKLMNPQRSTVWY"))


def random_peptides(lengths, seed=3):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(RESIDUES, length)) for length in lengths]


def shake(model: torch.nn.Module) -> torch.nn.Module:
    """Make every weight random, also those that start as zeros and ones."""
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return model.eval()


def fair_esm2(layers: int, dim: int, heads: int, token_dropout: bool = True) -> esm.ESM2:
    torch.manual_seed(5)
    return shake(esm.ESM2(layers, dim, heads, token_dropout=token_dropout))


def write_fair_esm(model: esm.ESM2, path: Path) -> Path:
    """A checkpoint as fair-esm publishes them."""
    cfg = Namespace(
        encoder_layers=model.num_layers,
        encoder_embed_dim=model.embed_dim,
        encoder_attention_heads=model.attention_heads,
        token_dropout=model.token_dropout,
    )
    weights = {
        ("encoder." if name.startswith("lm_head") else "encoder.sentence_encoder.") + name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith("contact_head")
    }
    torch.save({"cfg": {"model": cfg}, "model": weights}, path)
    return path


def fair_embeddings(model: esm.ESM2, peptides: list[str]) -> np.ndarray:
    """As the published tool calls it: a padded batch, the mean of the residues."""
    _, _, tokens = ALPHABET.get_batch_converter()([("", peptide) for peptide in peptides])
    with torch.no_grad():
        last = model(tokens, repr_layers=[model.num_layers])["representations"][model.num_layers]
    means = [row[1 : len(peptide) + 1].mean(0) for row, peptide in zip(last, peptides, strict=True)]
    return torch.stack(means).numpy()


def imported(source: Path, folder: Path, placement: Placement | None = None) -> Esm2:
    folder.mkdir()
    return load_encoder(import_esm2(source, folder), folder, placement or Placement())


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """fair-esm's model and ours, the same weights, through a checkpoint file."""
    oracle = fair_esm2(*SIZES)
    folder = tmp_path_factory.mktemp("esm2")
    source = write_fair_esm(oracle, folder / "esm2_random.pt")
    return oracle, imported(source, folder / "set")


def test_every_layer_is_fair_esms(pair):
    oracle, encoder = pair
    tokens = torch.from_numpy(np.stack([token_ids(p) for p in random_peptides([40, 40])]))
    layers = range(oracle.num_layers + 1)
    with torch.inference_mode():
        expected = oracle(tokens, repr_layers=layers)["representations"]
        states = list(encoder.module.hidden_states(tokens))
    assert len(states) == len(expected)
    for layer, state in enumerate(states):
        torch.testing.assert_close(state, expected[layer], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def small_checkpoint(tmp_path_factory):
    oracle = fair_esm2(3, 60, 6)
    return oracle, write_fair_esm(oracle, tmp_path_factory.mktemp("esm2") / "small.pt")


@pytest.mark.parametrize("length", [500, 300])
def test_embeddings_are_the_published_tools(parity_modelset, parity_dir, length):
    recorded = parity_dir / f"expected_{length}"
    lines = (recorded / "input_identified_protein.faa").read_text().splitlines()
    features = np.load(recorded / "features.npz")
    assert [line[1:] for line in lines[::2]] == features["ids"].tolist()
    encoder = load_encoder(read_info(parity_modelset).peptide, parity_modelset, Placement())
    np.testing.assert_allclose(
        encoder.embed(lines[1::2]), features["features"][:, 96:], rtol=0, atol=1e-5
    )


def test_frequencies_rounded_to_half_precision_are_kept(tmp_path):
    """Published checkpoints are in half precision, and fair-esm loads its rounded frequencies."""
    halved = fair_esm2(3, 96, 3).half()
    source = write_fair_esm(halved, tmp_path / "half.pt")
    oracle = fair_esm2(3, 96, 3)
    oracle.load_state_dict(halved.state_dict())
    encoder = imported(source, tmp_path / "set")
    stored = load_file(tmp_path / "set/peptide.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    loaded = oracle.layers[0].self_attn.rot_emb.inv_freq
    assert torch.equal(encoder.module.inverse_frequencies, loaded)
    assert not torch.equal(loaded, inverse_frequencies(32))
    # With exact frequencies the difference would be 4e-5.
    peptides = random_peptides([400, 400])
    np.testing.assert_allclose(
        encoder.embed(peptides), fair_embeddings(oracle, peptides), rtol=0, atol=1e-5
    )


def hugging_face_esm2(layers: int, dim: int, heads: int) -> EsmModel:
    config = EsmConfig(
        vocab_size=33,
        hidden_size=dim,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * dim,
        position_embedding_type="rotary",
        layer_norm_eps=1e-5,
        emb_layer_norm_before=False,
        token_dropout=True,
        mask_token_id=32,
        pad_token_id=1,
    )
    torch.manual_seed(6)
    return shake(EsmModel(config, add_pooling_layer=False))


@pytest.fixture(scope="module")
def hugging_face_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hugging_face") / "esm2"
    model = hugging_face_esm2(*SIZES)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(ALPHABET.all_toks))
    return model, folder


def test_a_hugging_face_folder_gives_its_embeddings(hugging_face_folder, tmp_path):
    model, folder = hugging_face_folder
    encoder = imported(folder, tmp_path / "set")
    peptides = random_peptides([166, 20, 1, 33])
    for peptide, found in zip(peptides, encoder.embed(peptides), strict=True):
        tokens = torch.from_numpy(token_ids(peptide))[None]
        with torch.no_grad():
            last = model(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        np.testing.assert_allclose(found, last[0, 1:-1].mean(0), rtol=0, atol=1e-4)


def test_an_older_folder_in_two_files_gives_the_same(hugging_face_folder, tmp_path):
    """Prefixed names, frequencies in every layer, pickles with an index: as published for 3B."""
    _, folder = hugging_face_folder
    expected = imported(folder, tmp_path / "expected")
    older = tmp_path / "older"
    older.mkdir()
    (older / "config.json").write_bytes((folder / "config.json").read_bytes())
    weights = load_file(folder / "model.safetensors")
    (newer,) = [name for name in weights if name.endswith("inv_freq")]
    frequencies = weights.pop(newer)
    for layer in range(6):
        name = f"encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"
        weights[name] = frequencies.clone()
    halves = {"part-1.bin": {}, "part-2.bin": {}}
    for number, (name, tensor) in enumerate(weights.items()):
        halves[f"part-{number % 2 + 1}.bin"][f"esm.{name}"] = tensor
    for name, half in halves.items():
        torch.save(half, older / name)
    index = {"weight_map": {name: file for file, half in halves.items() for name in half}}
    (older / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    peptides = random_peptides([20, 5])
    embeddings = imported(older, tmp_path / "set").embed(peptides)
    assert np.array_equal(embeddings, expected.embed(peptides))


def test_another_vocabulary_is_refused(hugging_face_folder, tmp_path):
    _, folder = hugging_face_folder
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(ALPHABET.all_toks)))
    with pytest.raises(ModelSetError, match=r"vocab\.txt: not ESM-2's tokens"):
        import_esm2(tmp_path, tmp_path)


def test_token_ids_are_fair_esms():
    assert list(TOKENS) == ALPHABET.all_toks
    peptide = "".join(token for token in ALPHABET.all_toks if len(token) == 1)
    _, _, expected = ALPHABET.get_batch_converter()([("", peptide)])
    assert token_ids(peptide).tolist() == expected[0].tolist()
    assert token_ids("Aj\N{GREEK SMALL LETTER ALPHA}\x01").tolist() == [0, 5, 3, 3, 3, 2]


def test_no_texts_give_no_rows_and_an_empty_one_is_an_error(small_checkpoint, tmp_path):
    encoder = imported(small_checkpoint[1], tmp_path / "set")
    assert encoder.embed([]).shape == (0, 60)
    with pytest.raises(ValueError, match="empty peptide"):
        encoder.embed(["MKV", ""])
