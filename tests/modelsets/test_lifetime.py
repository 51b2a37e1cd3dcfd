import gc
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

LOADED, RELEASED = "modelset_loaded", "modelset_released"


class Watched:
    """A lifetime and the events it has emitted."""

    def __init__(self, folder: Path, *, persistent: bool) -> None:
        self.info = read_info(folder)
        source = ModelSource.of(str(folder), self.info, device="cpu")
        self.events: list[dict[str, Any]] = []
        self.lifetime = Lifetime(
            replace(source, threads=1),
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
    persistent.lifetime.close()
    assert persistent.story == [], "there is nothing to close"
    for _ in range(2):
        persistent.lifetime.open()
    assert len(set(persistent.do_partitions(5))) == 1
    assert persistent.story == [LOADED]
    for _ in range(2):
        persistent.lifetime.close()
    assert persistent.story == [LOADED, RELEASED]
    persistent.lifetime.open()
    assert (persistent.story, persistent.events[-1]["loads"]) == ([LOADED, RELEASED, LOADED], 2)
    persistent.lifetime.close()


def test_a_model_set_that_does_not_stay_is_loaded_and_released_for_every_partition(per_partition):
    per_partition.lifetime.open()
    assert per_partition.story == []
    per_partition.do_partitions(3)
    assert per_partition.story == [LOADED, RELEASED] * 3
    assert [e["loads"] for e in per_partition.events if e["event"] == LOADED] == [1, 2, 3]
    per_partition.lifetime.close()
    assert len(per_partition.story) == 6


@pytest.mark.parametrize("kind", ["persistent", "per_partition"])
def test_events_tell_mode_model_set_and_memory(kind, request):
    watched = request.getfixturevalue(kind)
    watched.lifetime.open()
    watched.do_partitions(1)
    watched.lifetime.close()
    loaded, released = watched.events
    assert watched.lifetime.mode == loaded["mode"] == released["mode"] == kind
    assert loaded["modelset"] == released["modelset"] == "parity"
    assert (loaded["checksum"], loaded["device"]) == (watched.info.checksum, "cpu")
    assert loaded["weight_bytes"] > 1_000_000
    assert loaded["elapsed_s"] > 0
    for event in (loaded, released):
        assert min(event["memory_before_bytes"], event["memory_after_bytes"]) > 0


@pytest.mark.parametrize("kind", ["persistent", "per_partition"])
def test_every_stage_computes_with_the_threads_that_were_asked_for(kind, request):
    """Whatever the worker's other work has set since the model set was loaded."""
    before = torch.get_num_threads()
    lifetime = request.getfixturevalue(kind).lifetime
    lifetime.open()
    try:
        torch.set_num_threads(2)
        with lifetime.models():
            assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
        lifetime.close()


@pytest.mark.parametrize("kind", ["persistent", "per_partition"])
def test_what_is_released_is_gone_from_memory(kind, request):
    lifetime = request.getfixturevalue(kind).lifetime
    lifetime.open()
    with lifetime.models() as models:
        parts = [weakref.ref(part) for part in (models.classifier, *models.encoders)]
    lifetime.close()
    gc.collect()
    assert [part() for part in parts] == [None] * 3


@pytest.mark.parametrize("kind", ["persistent", "per_partition"])
def test_a_failing_partition_leaves_what_stays_and_releases_what_does_not(kind, request):
    watched = request.getfixturevalue(kind)
    watched.lifetime.open()
    with pytest.raises(RuntimeError, match="in a partition"), watched.lifetime.models():
        raise RuntimeError("in a partition")
    assert watched.story == ([LOADED] if kind == "persistent" else [LOADED, RELEASED])
    watched.do_partitions(1)
    watched.lifetime.close()


def test_cached_gpu_memory_is_given_back_every_few_partitions_and_at_the_end(
    persistent, monkeypatch
):
    # What a GPU's cache would answer; without one there is nothing to clear, and no event.
    monkeypatch.setattr("virnuc_dask.modelsets.lifetime.clear_cache", lambda device: True)
    persistent.lifetime.open()
    persistent.do_partitions(5)
    assert [e["partitions"] for e in persistent.events if e["event"] == "cache_cleared"] == [2, 4]
    persistent.lifetime.close()
    assert persistent.story[-2:] == ["cache_cleared", RELEASED]


def test_closing_waits_for_the_stage_that_uses_the_model_set(persistent):
    persistent.lifetime.open()
    with persistent.lifetime.models() as models:
        persistent.lifetime.close()
        assert persistent.story == [LOADED]
        assert models.classifier is not None
        with pytest.raises(ModelSetError), persistent.lifetime.models():
            pass
    assert persistent.story == [LOADED, RELEASED]
