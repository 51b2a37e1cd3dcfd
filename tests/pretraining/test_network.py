"""The n-gram network, its merged form, and the model set that is written of it."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from virnuc_dask.encoders.ngrams import DNA_TABLES, PEPTIDE_TABLES
from virnuc_dask.modelsets.modelset import load_modelset
from virnuc_dask.modelsets.registry import read_info, verify, write_info
from virnuc_dask.pretraining.export import describe, write_weights
from virnuc_dask.pretraining.genes import OTHER, VIRUS
from virnuc_dask.pretraining.network import SIZES, NgramNetwork, chunk_scores, loss_of, merge
from virnuc_dask.pretraining.recipe import PretrainSettings
from virnuc_dask.pretraining.windows import codes_of, pack
from virnuc_dask.sequences.frames import find_frames
from virnuc_dask.stages.extract import extract_features
from virnuc_dask.stages.predict import predict_frames
from virnuc_dask.stages.receipt import Stopwatch
from virnuc_dask.tables import schemas

WIDTH, HIDDEN = 5, 7


@pytest.fixture(scope="module")
def chunks(make_genes):
    return [gene.dna[:500] for kind in (VIRUS, OTHER) for gene in make_genes(kind, 20)]


@pytest.fixture(scope="module")
def samples(chunks):
    codes, _ = codes_of(chunks)
    return pack(codes, np.repeat([1, 0], 20))[0]


def network(seed: int) -> NgramNetwork:
    """As if trained: batch norm and biases are not those of a new one."""
    torch.manual_seed(seed)
    made = NgramNetwork(WIDTH, HIDDEN, dropout=0.3)
    norm = made.classifier.norm
    with torch.no_grad():
        for tensor in (norm.running_mean, norm.weight, norm.bias, made.classifier.output.bias):
            tensor.normal_()
        norm.running_var.uniform_(0.1, 2.0)
        made.classifier.hidden.weight.mul_(60)  # means of new tables hardly differ
    return made.eval()


@torch.inference_mode()
def logits(one: NgramNetwork, samples) -> torch.Tensor:
    return one(samples)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_merged_logits_are_the_means_of_the_members(samples, count):
    members = [network(seed) for seed in range(count)]
    merged = merge(members)
    expected = torch.stack([logits(member, samples) for member in members]).mean(dim=0)
    torch.testing.assert_close(logits(merged, samples), expected, rtol=0, atol=1e-5)
    assert merged.classifier.hidden.out_features == count * HIDDEN
    assert not merged.training
    if count > 1:
        assert (logits(merged, samples) - logits(members[0], samples)).abs().max() > 0.01


def test_members_are_not_changed_by_merging():
    members = [network(0), network(1)]
    before = {name: value.clone() for name, value in members[0].state_dict().items()}
    merge(members).tables["codons"].data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in members[0].state_dict().items())


def test_new_tables_have_the_spread_that_is_asked_for():
    torch.manual_seed(0)
    for spread in (0.05, 1.0):
        made = NgramNetwork(4, 8, spread=spread)
        assert made.tables["six_mers"].std().item() == pytest.approx(spread, rel=0.05)


def test_a_chunks_score_is_decided_by_its_best_frames(samples):
    scores = torch.rand(len(samples.chunk_of_frame), generator=torch.Generator().manual_seed(0))
    found = chunk_scores(scores, samples)
    for chunk in range(len(samples)):
        own = scores[samples.chunk_of_frame == chunk]
        expected = (1 + own.max() - (1 - own).max()) / 2
        assert found[chunk].item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_loss_falls_where_frames_and_chunks_are_right(samples):
    truth = samples.labels[samples.chunk_of_frame]
    right = torch.nn.functional.one_hot(truth, 2) * 4.0
    undecided = torch.zeros(len(truth), 2)
    assert loss_of(right, samples) < 0.1 < loss_of(undecided, samples) < loss_of(-right, samples)
    assert loss_of(undecided, samples).item() == pytest.approx(2 * np.log(2), abs=1e-5)
    surely_wrong = loss_of(-right * 1e3, samples)
    assert torch.isfinite(surely_wrong)


@pytest.fixture(scope="module")
def settings():
    return PretrainSettings.of(
        {"name": "toy", "version": "1.2", "out": "o", "work": "w", "licence": "MIT"}
        | {"data": {"markers": "m"}, "chunk_lengths": [500]},
        "pretrain",
    )


@pytest.fixture(scope="module")
def merged():
    return merge([network(0), network(1)])


@pytest.fixture(scope="module")
def folder(merged, settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "toy"
    write_weights(merged, folder)
    write_info(folder, describe(merged, settings, "toy genes"))
    return folder


def test_the_written_model_set_verifies_and_says_what_it_is(folder):
    info = read_info(folder)
    verify(folder, info)
    assert (info.name, info.version, info.licence) == ("toy", "1.2", "MIT")
    assert (info.chunk_lengths, info.training_data) == ((500,), "toy genes")
    assert (info.nucleotide.dim, info.peptide.dim) == (3 * 2 * WIDTH, 2 * WIDTH)
    assert info.classifier.hidden == 2 * HIDDEN
    modes = {path.stat().st_mode & 0o444 for path in folder.glob("*.safetensors")}
    assert modes == {0o444}


def test_the_exported_encoders_have_the_networks_features_in_its_order(folder, merged, chunks):
    seen = []
    hook = merged.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    codes, _ = codes_of(chunks)
    logits(merged, pack(codes, np.zeros(len(chunks), np.int64))[0])
    hook.remove()
    frames = [frame for of_chunk in find_frames(chunks) for frame in of_chunk]
    nucleotide, peptide = load_modelset(str(folder), "cpu").encoders
    features = [
        nucleotide.embed([frame.dna for frame in frames]),
        peptide.embed([frame.peptide for frame in frames]),
    ]
    assert list(SIZES) == [*DNA_TABLES, *PEPTIDE_TABLES]
    np.testing.assert_allclose(np.concatenate(features, axis=1), seen[0], rtol=0, atol=2e-3)


def test_the_written_model_set_scores_as_the_network_through_the_stages(
    folder, merged, chunks, samples
):
    names = [f"c{n}" for n in range(len(chunks))]
    columns = [names, names, range(len(chunks)), [1] * len(chunks), [0] * len(chunks)]
    columns += [[len(chunk) for chunk in chunks], chunks]
    partition = pa.table([pa.array(c) for c in columns], schema=schemas.PARTITION)
    models = load_modelset(str(folder), "cpu")
    predictions = predict_frames(extract_features(partition, models, Stopwatch()), models)
    expected = torch.softmax(logits(merged, samples), dim=1).numpy()
    for column, values in zip(("score_others", "score_virus"), expected.T, strict=True):
        np.testing.assert_allclose(predictions[column].to_numpy(), values, rtol=0, atol=0.01)
    assert np.ptp(expected[:, 1]) > 0.3
    assert predictions["chunk_id"].to_pylist() == [names[n] for n in samples.chunk_of_frame]
