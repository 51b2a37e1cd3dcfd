"""Training n-gram networks: what is learnt, kept, and read back."""

import json
from concurrent.futures import Future
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from virnuc_dask.errors import BadInputError, ModelSetError, PlanChangedError
from virnuc_dask.pretraining import learning
from virnuc_dask.pretraining import members as module
from virnuc_dask.pretraining.genes import OTHER, TRAIN, VALIDATION, VIRUS
from virnuc_dask.pretraining.learning import train, validation_chunks
from virnuc_dask.pretraining.members import train_members
from virnuc_dask.pretraining.network import chunk_scores, merge
from virnuc_dask.pretraining.recipe import NgramRecipe
from virnuc_dask.pretraining.windows import WindowSource
from virnuc_dask.sequences.chunks import chunk_spans

TINY = NgramRecipe(
    members=2,
    width=4,
    hidden=8,
    steps=24,
    batch=48,
    steps_between_checks=8,
    learning_rate=0.01,
    table_learning_rate=0.05,
    averaging=0.8,
)
LENGTHS = (300, 500)


class InThisProcess:
    """Does a pool's work when it is submitted; a new process would take seconds to start."""

    def __init__(self, *_) -> None:
        self.submitted = 0

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        return None

    def submit(self, work, *arguments) -> Future:
        done = Future()
        done.set_result(work(*arguments))
        return done


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(learning, "_BATCHES_FOR_NORM", 2)
    monkeypatch.setattr(learning, "_WARM_UP_STEPS", 2)
    monkeypatch.setattr(module, "ProcessPoolExecutor", InThisProcess)


@pytest.fixture(scope="module")
def genes(make_genes):
    return {
        part: [g for kind in (VIRUS, OTHER) for g in make_genes(kind, count, seed)]
        for seed, (part, count) in enumerate({TRAIN: 60, VALIDATION: 20}.items())
    }


@pytest.fixture(scope="module")
def validation(genes):
    return {length: validation_chunks(genes[VALIDATION], length) for length in LENGTHS}


def trained(genes, validation, recipe=TINY, seed=1):
    source = WindowSource(genes[TRAIN], recipe.noise_share, recipe.mutated_share)
    return train(source, validation, recipe, seed)


def auroc(network, samples) -> float:
    with torch.inference_mode():
        scores = torch.softmax(network(samples).double(), dim=1)[:, 1]
    return roc_auc_score(samples.labels, chunk_scores(scores, samples))


def members_in(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def tensors_in(folder) -> dict[str, dict[str, bytes]]:
    """The members' tensors and metadata; safetensors writes metadata in any order."""
    found = {}
    for path in folder.iterdir():
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = {name: value.numpy().tobytes() for name, value in load_file(path).items()}
        found[path.name] = metadata | tensors
    return found


def same_weights(one, other) -> bool:
    state = other.state_dict()
    return all(torch.equal(value, state[name]) for name, value in one.state_dict().items())


def test_a_toy_problem_is_learnt(genes, validation):
    network, history = trained(genes, validation, replace(TINY, steps=60))
    for length, samples in validation.items():
        assert auroc(network, samples) > 0.9
        assert history[-1][str(length)] > 0.9
    assert history[-1]["loss"] < history[0]["loss"] - 0.1


def test_checks_are_made_at_their_steps_and_at_the_end(genes, validation):
    _, history = trained(genes, validation, replace(TINY, steps=20))
    assert [check["step"] for check in history] == [8, 16, 20]
    assert all(set(check) == {"step", "loss", "300", "500"} for check in history)


def test_the_step_that_validates_best_is_kept(genes, validation, monkeypatch):
    checked = []
    of_check = iter([0.7, 0.9, 0.8])

    def quality(network, samples):
        checked.append(network)
        return dict.fromkeys(samples, next(of_check))

    monkeypatch.setattr(learning, "chunk_aurocs", quality)
    kept, history = trained(genes, validation)
    assert kept is checked[1]
    assert [check["300"] for check in history] == [0.7, 0.9, 0.8]
    assert not same_weights(kept, checked[2])
    assert not kept.training


def test_of_lengths_their_mean_decides(genes, validation, monkeypatch):
    checked = []
    of_check = iter([{300: 0.9, 500: 0.5}, {300: 0.8, 500: 0.8}, {300: 0.5, 500: 0.9}])
    monkeypatch.setattr(
        learning, "chunk_aurocs", lambda network, _: checked.append(network) or next(of_check)
    )
    assert trained(genes, validation)[0] is checked[1]


def test_the_same_seed_learns_the_same_and_another_one_something_else(genes, validation):
    recipe = replace(TINY, steps=4)
    first, again, other = (trained(genes, validation, recipe, seed)[0] for seed in (1, 1, 2))
    assert same_weights(first, again)
    assert not torch.equal(first.tables["codons"], other.tables["codons"])


def test_validation_chunks_are_the_whole_chunks_of_a_run(genes):
    found = validation_chunks(genes[VALIDATION], 500)
    cut = [
        (gene.is_virus, end - start)
        for gene in genes[VALIDATION]
        for start, end in chunk_spans(len(gene.dna), 500)
    ]
    for label in (0, 1):
        whole = sum(is_virus == label and length == 500 for is_virus, length in cut)
        assert int((found.labels == label).sum()) == whole > 10


def test_validation_chunks_are_limited_and_always_the_same(genes, monkeypatch):
    monkeypatch.setattr(learning, "_MOST_VALIDATION_CHUNKS", 7)
    first, again = (validation_chunks(genes[VALIDATION], 300) for _ in range(2))
    assert torch.bincount(first.labels).tolist() == [7, 7]
    assert torch.equal(first.bags["six_mers"].ids, again.bags["six_mers"].ids)


@pytest.mark.parametrize(("kind", "label"), [(VIRUS, "viral"), (OTHER, "other")])
def test_genes_without_a_chunk_to_validate_with_are_refused(genes, make_genes, kind, label):
    short = [g for g in genes[VALIDATION] if g.kind != kind] + make_genes(kind, 4, 5, (90, 91))
    with pytest.raises(BadInputError, match=f"the {label} validation genes have no chunk of 300"):
        validation_chunks(short, 300)


@pytest.fixture(scope="module")
def members(genes, tmp_path_factory):
    """A folder with two trained members, and what training them returned."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(learning, "_BATCHES_FOR_NORM", 2)
        patched.setattr(learning, "_WARM_UP_STEPS", 2)
        patched.setattr(module, "ProcessPoolExecutor", InThisProcess)
        folder = tmp_path_factory.mktemp("members")
        return folder, *train_members(genes, LENGTHS, TINY, 1, folder, threads=1)


@pytest.fixture
def copied(members, tmp_path):
    for name, content in members_in(members[0]).items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_the_members_mean_is_returned_with_their_histories(members, validation):
    folder, network, histories = members
    assert sorted(members_in(folder)) == ["member-00.safetensors", "member-01.safetensors"]
    singles = []
    for path, history in zip(sorted(folder.iterdir()), histories, strict=True):
        with safe_open(path, framework="pt") as file:
            assert json.loads(file.metadata()["history"]) == history
        singles.append(learning.NgramNetwork(TINY.width, TINY.hidden).eval())
        singles[-1].load_state_dict(load_file(path))
    assert not same_weights(*singles)
    assert same_weights(network, merge(singles))
    expected = np.mean([history[-1]["300"] for history in histories])
    assert auroc(network, validation[300]) > min(0.9, expected - 0.1)


def test_an_interrupted_training_ends_with_the_same_weights(genes, members, copied, monkeypatch):
    folder, network, histories = members
    (copied / "member-00.safetensors").unlink()
    seeds = []
    whole = module.train
    monkeypatch.setattr(module, "train", lambda *given: seeds.append(given[-1]) or whole(*given))
    again, history = train_members(genes, LENGTHS, TINY, 1, copied, threads=1)
    assert seeds == [1]
    assert tensors_in(copied) == tensors_in(folder)
    assert same_weights(again, network)
    assert history == histories


def test_more_members_are_added_to_those_that_are_there(genes, copied):
    before = members_in(copied)
    network, histories = train_members(
        genes, LENGTHS, replace(TINY, members=3), 1, copied, threads=1
    )
    assert len(histories) == 3
    assert network.classifier.hidden.out_features == 3 * TINY.hidden
    assert before.items() < members_in(copied).items()


def test_validation_genes_are_not_learnt_from(genes, members, tmp_path, monkeypatch):
    seen = []

    class Watched(WindowSource):
        def __init__(self, given, *shares):
            seen.extend(given)
            super().__init__(given, *shares)

    monkeypatch.setattr(module, "WindowSource", Watched)
    train_members(genes, LENGTHS, replace(TINY, members=1, steps=1), 1, tmp_path, threads=1)
    assert seen == genes[TRAIN]


@pytest.mark.parametrize("change", ["seed", "recipe", "lengths", "training", "validation"])
def test_members_of_another_training_are_refused(genes, copied, change):
    part = {"training": TRAIN, "validation": VALIDATION}.get(change)
    other = genes | ({part: genes[part][:-1]} if part else {})
    with pytest.raises(PlanChangedError, match=r"member-00\.safetensors: was trained on other"):
        train_members(
            other,
            LENGTHS[: 1 if change == "lengths" else 2],
            replace(TINY, dropout=0.1) if change == "recipe" else TINY,
            2 if change == "seed" else 1,
            copied,
            threads=1,
        )


def test_a_member_in_the_place_of_another_is_refused(genes, copied):
    (copied / "member-00.safetensors").rename(copied / "member-01.safetensors")
    with pytest.raises(PlanChangedError, match=r"member-01\.safetensors"):
        train_members(genes, LENGTHS, TINY, 1, copied, threads=1)


def test_a_damaged_member_is_named(genes, copied):
    path = copied / "member-01.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelSetError, match=r"member-01\.safetensors: damaged.*Delete it"):
        train_members(genes, LENGTHS, TINY, 1, copied, threads=1)
