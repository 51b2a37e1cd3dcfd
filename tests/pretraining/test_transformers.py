import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from virnuc_dask.encoders.dnabert_s import DnabertSModule, DnabertSSizes, read_tokenizer
from virnuc_dask.encoders.encoder import Placement, load_encoder
from virnuc_dask.encoders.esm2 import ALPHABET, Esm2Module, Esm2Sizes, token_ids
from virnuc_dask.errors import BadInputError, BadSettingError, ModelSetError, PlanChangedError
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.registry import ClassifierSpec, ModelSetInfo, write_info
from virnuc_dask.pretraining import transformers
from virnuc_dask.pretraining.checkpoint import read_checkpoint
from virnuc_dask.pretraining.masked import Hardware, MaskedTraining, learning_rate
from virnuc_dask.pretraining.transformer_recipe import TransformerRecipe, TransformerSizes
from virnuc_dask.pretraining.transformers import (
    STATE,
    dna_language,
    new_network,
    peptide_language,
    pretrain_encoders,
    read_figures,
)
from virnuc_dask.sequences.frames import Frame, find_frames

FILES = ("nucleotide.safetensors", "peptide.safetensors", "tokenizer.json")
SIZES = TransformerSizes(layers=2, heads=2, dim=32)
TINY = TransformerRecipe(
    nucleotide=SIZES,
    peptide=SIZES,
    vocabulary=40,
    tokenizer_nt=5_000,
    steps=9,
    batch_tokens=512,
    learning_rate=5e-3,
    warmup_steps=2,
    device="cpu",
    checkpoint_every_steps=4,
    log_every_steps=3,
    seed=3,
)
LOG = logging.getLogger("test_transformers")


def words() -> list[str]:
    rng = np.random.default_rng(5)
    codons = [a + b + c for a in "ACG" for b in "ACGT" for c in "ACGT"]  # none of them a stop
    return ["".join(rng.choice(codons, 8)) for _ in range(4)]


class ToySource:
    """A few words in random order: what is hidden can be told from what is shown.

    Rounds are so small that every step or two needs another.
    """

    fingerprint = "toy"

    def __init__(self, frames: int = 12) -> None:
        self.frames = frames
        self.validation = self.draw(np.random.default_rng(99))

    def draw(self, rng: np.random.Generator) -> list[Frame]:
        counts = rng.integers(10, 13, self.frames)
        chunks = ["".join(rng.choice(words(), count)) for count in counts]
        return [of_chunk[0] for of_chunk in find_frames(chunks)]


def contents(folder) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of an uninterrupted training, and its encoders' specifications."""
    folder = tmp_path_factory.mktemp("trained")
    return folder, pretrain_encoders(ToySource(), TINY, folder, LOG)


class InterruptedTrainingError(Exception):
    """Stands for whatever ends a training."""


def stop_training_after(step, monkeypatch):
    whole = MaskedTraining._step

    def watched(self, batch):
        if self.progress.step > step:
            raise InterruptedTrainingError
        return whole(self, batch)

    monkeypatch.setattr(MaskedTraining, "_step", watched)


@pytest.mark.parametrize("step", [2, 5])
def test_resumed_equals_uninterrupted(trained, tmp_path, monkeypatch, caplog, step):
    folder, specs = trained
    with monkeypatch.context() as patched:
        stop_training_after(step, patched)
        with pytest.raises(InterruptedTrainingError):
            pretrain_encoders(ToySource(), TINY, tmp_path, LOG)
    assert not any((tmp_path / name).exists() for name in FILES)
    with caplog.at_level("INFO"):
        assert pretrain_encoders(ToySource(), TINY, tmp_path, LOG) == specs
    assert ("nucleotide: goes on after step 4" in caplog.text) == (step == 5)
    assert contents(tmp_path) == contents(folder)
    assert read_figures(tmp_path) == read_figures(folder)


def test_an_interrupt_between_the_encoders_does_not_repeat_the_first(
    trained, tmp_path, monkeypatch, caplog
):
    with monkeypatch.context() as patched:
        patched.setattr(transformers, "peptide_language", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pretrain_encoders(ToySource(), TINY, tmp_path, LOG)
    with caplog.at_level("INFO"):
        pretrain_encoders(ToySource(), TINY, tmp_path, LOG)
    assert "nucleotide: step 1" not in caplog.text
    assert contents(tmp_path) == contents(trained[0])


def test_another_seed_gives_other_weights(trained, tmp_path):
    pretrain_encoders(ToySource(), replace(TINY, seed=4), tmp_path, LOG)
    ours, others = contents(trained[0]), contents(tmp_path)
    assert ours[0] != others[0]
    assert ours[1] != others[1]


def test_where_and_how_often_may_change_when_a_training_goes_on(trained, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_training_after(5, patched)
        with pytest.raises(InterruptedTrainingError):
            pretrain_encoders(ToySource(), TINY, tmp_path, LOG)
    other = replace(TINY, precision="fp32", checkpoint_every_steps=100, log_every_steps=1)
    pretrain_encoders(ToySource(), other, tmp_path, LOG)
    assert contents(tmp_path) == contents(trained[0])


def test_other_settings_or_data_do_not_go_on_in_the_folder(trained):
    folder = trained[0]
    with pytest.raises(PlanChangedError, match=r"steps: 9, now 10"):
        pretrain_encoders(ToySource(), replace(TINY, steps=10), folder, LOG)
    other = ToySource()
    other.fingerprint = "other"
    with pytest.raises(PlanChangedError, match=r"source: toy, now other"):
        pretrain_encoders(other, TINY, folder, LOG)


def plain_embedding(encoder, ids, places) -> np.ndarray:
    with torch.no_grad():
        return encoder(torch.tensor([ids]))[0][places].mean(0).numpy()


@pytest.fixture(scope="module")
def encoders(trained):
    folder, specs = trained
    return [load_encoder(spec, folder, Placement()) for spec in specs]


@pytest.fixture(scope="module")
def networks(trained):
    """The networks as training had them at its last step, from its checkpoints."""
    folder, (nucleotide, peptide) = trained
    built = [
        new_network(lambda: DnabertSModule(DnabertSSizes(**nucleotide.config)), seed=77),
        new_network(lambda: Esm2Module(Esm2Sizes(**peptide.config)), seed=77),
    ]
    for network, file in zip(built, FILES, strict=False):
        optimizer = torch.optim.AdamW(network.parameters())
        assert read_checkpoint(folder / STATE / file, network, optimizer).step == TINY.steps
    return [network.encoder for network in built]


def test_the_trained_dnabert_s_embeds_as_it_did_in_training(encoders, networks):
    texts = [frame.dna for frame in ToySource().validation]
    ids = [encoders[0].tokenizer.encode(text).ids for text in texts]
    expected = [plain_embedding(networks[0], one, slice(None)) for one in ids]
    np.testing.assert_allclose(encoders[0].embed(texts), expected, rtol=0, atol=1e-5)


def test_the_trained_esm2_embeds_as_it_did_in_training(encoders, networks):
    texts = [frame.peptide for frame in ToySource().validation]
    ids = [token_ids(text).tolist() for text in texts]
    expected = [plain_embedding(networks[1], one, slice(1, -1)) for one in ids]
    np.testing.assert_allclose(encoders[1].embed(texts), expected, rtol=0, atol=1e-5)


def test_with_a_classifier_they_make_a_model_set(trained, tmp_path):
    folder, (nucleotide, peptide) = trained
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / STATE)
    save_file(Classifier(64, 8).state_dict(), tmp_path / "classifier.safetensors")
    classifier = ClassifierSpec("classifier.safetensors", 8)
    info = write_info(
        tmp_path, ModelSetInfo("toy", "1", (300,), nucleotide, peptide, classifier, "none", "toy")
    )
    assert set(info.files) == {*FILES, "classifier.safetensors"}
    assert info.feature_dim == 64
    for spec in (info.nucleotide, info.peptide):
        assert load_encoder(spec, tmp_path, Placement()).embed(["ACG" * 9]).shape == (1, 32)


def test_the_head_and_the_encoder_share_their_embeddings():
    network = new_network(lambda: Esm2Module(Esm2Sizes(1, 8, 2)), seed=1)
    names = [name for name, _ in network.named_parameters() if "embedding" in name]
    assert names == ["encoder.embedding.weight"]
    logits = network(torch.tensor([[0, 5, 32, 2]]), torch.tensor([2]))
    logits.sum().backward()
    assert network.encoder.embedding.weight.grad[20].any(), "a token that was not shown learns"


def test_new_networks_depend_on_the_seed_and_leave_torchs_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, same, other = (
        new_network(lambda: Esm2Module(Esm2Sizes(2, 8, 2)), seed).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["dense.weight"], other["dense.weight"])
    assert set(one["encoder.layers.1.mlp_norm.weight"].tolist()) == {1.0}
    assert set(one["encoder.layers.1.mlp_norm.bias"].tolist()) == {0.0}
    assert one["encoder.inverse_frequencies"].tolist() == pytest.approx([1.0, 0.01])


def test_the_peptide_language_replaces_by_the_twenty_amino_acids():
    letters = {ALPHABET.get_tok(index) for index in peptide_language().ordinary}
    assert letters == set("ACDEFGHIKLMNPQRSTVWY")


LONGER = replace(
    TINY,
    steps=200,
    batch_tokens=1_024,
    learning_rate=1e-2,
    warmup_steps=20,
    checkpoint_every_steps=500,
)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learnt")
    pretrain_encoders(ToySource(100), LONGER, folder, LOG)
    return folder, read_figures(folder)


def entropy(encode, texts) -> float:
    """Nats a token that who knows how frequent tokens are, but no context, is left with."""
    tokens = np.concatenate([text[1:-1] for text in encode(texts)])
    counts = np.unique_counts(tokens).counts
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


@pytest.mark.slow
def test_a_toy_language_is_learnt_from_context(learnt):
    folder, figures = learnt
    frames = ToySource(100).validation
    dna = dna_language(read_tokenizer(folder / "tokenizer.json"))
    without_context = {
        "nucleotide": entropy(dna.encode, [frame.dna for frame in frames]),
        "peptide": entropy(peptide_language().encode, [frame.peptide for frame in frames]),
    }
    for name, least in (("nucleotide", 0.4), ("peptide", 1.2)):
        assert figures[name]["validation_loss"] < without_context[name] - least
        assert figures[name]["steps"] == LONGER.steps
        assert figures[name]["tokens"] > LONGER.steps * LONGER.batch_tokens / 2
    assert figures["peptide"]["validation_accuracy"] > 0.6


def test_bf16_learns_nearly_the_same(trained, tmp_path):
    pretrain_encoders(ToySource(), replace(TINY, precision="bf16"), tmp_path, LOG)
    ours, others = read_figures(trained[0]), read_figures(tmp_path)
    for name in ("nucleotide", "peptide"):
        assert others[name]["validation_loss"] == pytest.approx(
            ours[name]["validation_loss"], rel=0.05
        )
    assert contents(tmp_path)[0] != contents(trained[0])[0]


def test_the_log_says_step_loss_and_speed(tmp_path, caplog):
    with caplog.at_level("INFO"):
        pretrain_encoders(ToySource(), replace(TINY, steps=4), tmp_path, LOG)
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "tokenizer: 40 tokens"
    assert messages[1].startswith("nucleotide: step 3 of 4, loss ")
    assert messages[1].endswith(" tokens/s")
    assert messages[3].startswith("nucleotide: step 4 of 4, validation loss ")
    assert len(messages) == 7


def test_without_validation_frames_nothing_is_measured(tmp_path):
    source = ToySource()
    source.validation = []
    pretrain_encoders(source, replace(TINY, steps=1), tmp_path, LOG)
    assert read_figures(tmp_path)["peptide"]["validation_loss"] is None


def test_a_training_that_diverges_stops_and_keeps_its_last_checkpoint(tmp_path, monkeypatch):
    whole = MaskedTraining._step

    def diverging(self, batch):
        if self.progress.step == 6:
            with torch.no_grad():
                self.network.bias.fill_(float("nan"))
        return whole(self, batch)

    monkeypatch.setattr(MaskedTraining, "_step", diverging)
    with pytest.raises(BadSettingError, match=r"nucleotide: .* at step 8.*learning_rate"):
        pretrain_encoders(ToySource(), TINY, tmp_path, LOG)
    network = new_network(
        lambda: DnabertSModule(DnabertSSizes(2, 32, 2, 128, TINY.vocabulary)), seed=1
    )
    optimizer = torch.optim.AdamW(network.parameters())
    checkpoint = tmp_path / STATE / "nucleotide.safetensors"
    assert read_checkpoint(checkpoint, network, optimizer).step == 4


def test_a_damaged_checkpoint_is_named(trained, tmp_path):
    pretrain_encoders(ToySource(), TINY, tmp_path, LOG)
    checkpoint = tmp_path / STATE / "peptide.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-4])
    with pytest.raises(ModelSetError, match=r"pretraining/peptide\.safetensors: damaged"):
        pretrain_encoders(ToySource(), TINY, tmp_path, LOG)


@pytest.mark.parametrize("name", ["plan.json", "figures.json"])
@pytest.mark.parametrize("content", ["{", "[1]"])
def test_damaged_notes_are_named(tmp_path, name, content):
    (tmp_path / STATE).mkdir()
    (tmp_path / STATE / name).write_text(content)
    with pytest.raises(ModelSetError, match=f"{name}: damaged"):
        pretrain_encoders(ToySource(), replace(TINY, steps=1), tmp_path, LOG)


def test_a_source_without_frames_is_named(tmp_path):
    with pytest.raises(BadInputError, match="no frame was drawn"):
        pretrain_encoders(ToySource(0), TINY, tmp_path, LOG)


def test_the_learning_rate_rises_and_falls():
    recipe = replace(TINY, steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(recipe, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001
    assert learning_rate(replace(recipe, warmup_steps=0), 0) == 1.0


def test_a_gpu_that_is_not_here_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadSettingError, match="no GPU"):
        Hardware.of(replace(TINY, device="cuda"))
    assert Hardware.of(replace(TINY, device="auto")) == Hardware("cpu", bf16=False)
    assert Hardware.of(replace(TINY, precision="bf16")) == Hardware("cpu", bf16=True)


def test_a_gpu_is_used_in_bf16_if_it_can(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert Hardware.of(replace(TINY, device="auto")) == Hardware("cuda", bf16=True)
    assert Hardware.of(replace(TINY, device="cpu")) == Hardware("cpu", bf16=False)
    assert Hardware.of(replace(TINY, device="cuda", precision="fp32")) == Hardware("cuda", False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layers": 3}, "unknown setting"),
        ({"peptide": {"dim": 30, "heads": 2}}, "even multiple"),
        ({"peptide": {"layers": 0}}, "at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"mask_share": 1.0}, "between 0 and 1"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"precision": "fp16"}, "precision must be one of"),
        ({"device": "gpu"}, "device must be one of"),
        ({"vocabulary": 10}, "vocabulary"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(values, message):
    with pytest.raises(BadSettingError, match=message):
        TransformerRecipe.of(values)


def test_a_recipe_is_read_from_plain_values():
    recipe = TransformerRecipe.of({"peptide": {"layers": 3}, "learning_rate": 1, "steps": 7})
    assert (recipe.peptide.layers, recipe.nucleotide.layers, recipe.steps) == (3, 8, 7)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_a_gpu_learns_in_bf16_and_goes_on_where_it_was(learnt, tmp_path, monkeypatch):
    recipe = replace(LONGER, device="cuda", precision="auto", checkpoint_every_steps=40)
    with monkeypatch.context() as patched:
        stop_training_after(100, patched)
        with pytest.raises(InterruptedTrainingError):
            pretrain_encoders(ToySource(100), recipe, tmp_path, LOG)
    specs = pretrain_encoders(ToySource(100), recipe, tmp_path, LOG)
    figures = json.loads((tmp_path / STATE / "figures.json").read_text())
    for name in ("nucleotide", "peptide"):
        assert figures[name]["validation_loss"] == pytest.approx(
            learnt[1][name]["validation_loss"], abs=0.3
        )
    for spec, texts in zip(specs, (["ACGTAC" * 9], ["MKV" * 9]), strict=True):
        assert np.isfinite(load_encoder(spec, tmp_path, Placement()).embed(texts)).all()
