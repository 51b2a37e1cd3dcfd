import gc
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.lifetime import Lifetime
from virnuc_dask.modelsets.manifest import read_info
from virnuc_dask.modelsets.source import ModelSource


class Watched:
    """A lifetime and the events it has emitted."""

    def __init__(self, folder: Path, *, persistent: bool, threads: int | None = None) -> None:
        source = ModelSource.of(str(folder), read_info(folder), device="cpu")
        self.events: list[dict[str, Any]] = []
        self.lifetime = Lifetime(
            replace(source, threads=threads),
            persistent=persistent,
            clear_cache_every=2,
            emit=self.events.append,
        )

    @property
    def story(self) -> list[str]:
        return [event["event"] for event in self.events]

    def do_partitions(self, count: int) -> list[int]:
        """Use the model set for so many partitions; returns which object each of them saw."""
        seen = []
        for _ in range(count):
            with self.lifetime.models() as models:
                assert len(models.encoders) == 2
                seen.append(id(models.classifier))
            self.lifetime.partition_done()
        return seen


@pytest.fixture
def persistent(parity_modelset: Path) -> Watched:
    return Watched(parity_modelset, persistent=True)


@pytest.fixture
def per_partition(parity_modelset: Path) -> Watched:
    return Watched(parity_modelset, persistent=False)


def test_a_model_set_that_stays_is_loaded_once_for_all_partitions(persistent):
    persistent.lifetime.open()
    assert len(set(persistent.do_partitions(5))) == 1
    assert persistent.story == ["modelset_loaded"]
    persistent.lifetime.close()
    assert persistent.story == ["modelset_loaded", "modelset_released"]


def test_opening_twice_loads_once(persistent):
    persistent.lifetime.open()
    persistent.lifetime.open()
    assert persistent.story == ["modelset_loaded"]
    persistent.lifetime.close()


def test_a_model_set_that_does_not_stay_is_loaded_and_released_for_every_partition(per_partition):
    per_partition.lifetime.open()
    assert per_partition.story == []
    per_partition.do_partitions(3)
    assert per_partition.story == ["modelset_loaded", "modelset_released"] * 3
    assert [e["loads"] for e in per_partition.events if e["event"] == "modelset_loaded"] == [
        1,
        2,
        3,
    ]
    per_partition.lifetime.close()
    assert len(per_partition.story) == 6


@pytest.mark.parametrize("kind", ["persistent", "per_partition"])
def test_events_tell_mode_model_set_and_memory(kind, request, parity_modelset):
    watched = request.getfixturevalue(kind)
    watched.lifetime.open()
    watched.do_partitions(1)
    watched.lifetime.close()
    loaded, released = watched.events
    info = read_info(parity_modelset)
    assert watched.lifetime.mode == kind
    assert loaded["mode"] == released["mode"] == kind
    assert loaded["modelset"] == released["modelset"] == "parity"
    assert (loaded["checksum"], loaded["device"], loaded["loads"]) == (info.checksum, "cpu", 1)
    assert loaded["weight_bytes"] > 1_000_000
    assert loaded["elapsed_s"] > 0
    for event in (loaded, released):
        assert event["memory_before_bytes"] > 0
        assert event["memory_after_bytes"] > 0


@pytest.mark.parametrize("persistently", [True, False])
def test_every_stage_computes_with_the_threads_that_were_asked_for(parity_modelset, persistently):
    """Whatever the worker's other work has set since the model set was loaded."""
    before = torch.get_num_threads()
    watched = Watched(parity_modelset, persistent=persistently, threads=1)
    watched.lifetime.open()
    try:
        torch.set_num_threads(2)
        with watched.lifetime.models():
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
        watched.lifetime.close()


def test_what_is_released_is_gone_from_memory(persistent):
    persistent.lifetime.open()
    with persistent.lifetime.models() as models:
        parts = [weakref.ref(part) for part in (models.classifier, *models.encoders)]
    persistent.lifetime.close()
    gc.collect()
    assert [part() for part in parts] == [None] * 3


def test_what_is_released_after_a_partition_is_gone_from_memory(per_partition):
    with per_partition.lifetime.models() as models:
        parts = [weakref.ref(part) for part in (models.classifier, *models.encoders)]
    gc.collect()
    assert [part() for part in parts] == [None] * 3


def fail_inside(watched: Watched) -> None:
    with watched.lifetime.models():
        raise RuntimeError("in a partition")


def test_a_failing_partition_leaves_a_model_set_that_stays(persistent):
    persistent.lifetime.open()
    with pytest.raises(RuntimeError, match="in a partition"):
        fail_inside(persistent)
    persistent.do_partitions(1)
    persistent.lifetime.close()
    assert persistent.story == ["modelset_loaded", "modelset_released"]


def test_a_failing_partition_releases_a_model_set_that_does_not_stay(per_partition):
    with pytest.raises(RuntimeError, match="in a partition"):
        fail_inside(per_partition)
    assert per_partition.story == ["modelset_loaded", "modelset_released"]


def test_closing_twice_releases_once(persistent):
    persistent.lifetime.open()
    persistent.lifetime.close()
    persistent.lifetime.close()
    assert persistent.story == ["modelset_loaded", "modelset_released"]


def test_closing_what_was_never_opened_is_nothing(persistent):
    persistent.lifetime.close()
    assert persistent.story == []


@pytest.mark.parametrize("closed", [False, True])
def test_there_are_no_models_before_opening_or_after_closing(persistent, closed):
    if closed:
        persistent.lifetime.open()
        persistent.lifetime.close()
    with pytest.raises(ModelSetError, match="released, or never loaded"):
        persistent.lifetime.models().__enter__()


def test_it_can_be_opened_again_after_closing(persistent):
    for _ in range(2):
        persistent.lifetime.open()
        persistent.do_partitions(1)
        persistent.lifetime.close()
    assert [e["loads"] for e in persistent.events if e["event"] == "modelset_loaded"] == [1, 2]


def test_a_damaged_model_set_is_not_loaded_and_nothing_is_told(parity_modelset, tmp_path):
    folder = shutil.copytree(parity_modelset, tmp_path / "modelset")
    watched = Watched(folder, persistent=True)
    (folder / "peptide.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelSetError, match=r"peptide\.safetensors: damaged"):
        watched.lifetime.open()
    watched.lifetime.close()
    assert watched.story == []


def test_cached_gpu_memory_is_given_back_every_few_partitions_and_at_the_end(
    persistent, monkeypatch
):
    # What a GPU's cache would answer; without one there is nothing to clear, and no event.
    monkeypatch.setattr("virnuc_dask.modelsets.lifetime.clear_cache", lambda device: True)
    persistent.lifetime.open()
    persistent.do_partitions(5)
    assert [e["partitions"] for e in persistent.events if e["event"] == "cache_cleared"] == [2, 4]
    persistent.lifetime.close()
    assert persistent.story[-2:] == ["cache_cleared", "modelset_released"]


def test_closing_waits_for_the_stage_that_uses_the_model_set(persistent):
    persistent.lifetime.open()
    with persistent.lifetime.models() as models:
        persistent.lifetime.close()
        assert persistent.story == ["modelset_loaded"]
        assert models.classifier is not None
        with pytest.raises(ModelSetError), persistent.lifetime.models():
            pass
    assert persistent.story == ["modelset_loaded", "modelset_released"]


def test_without_a_gpu_there_is_no_cache_to_tell_of(persistent):
    persistent.lifetime.open()
    persistent.do_partitions(4)
    persistent.lifetime.close()
    assert "cache_cleared" not in persistent.story
