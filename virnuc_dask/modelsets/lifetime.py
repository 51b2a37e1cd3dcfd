"""How long a model set stays loaded: for one partition, for a run, or beyond it."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from virnuc_dask.modelsets.device_lock import DeviceClock, ReleasedError
from virnuc_dask.modelsets.modelset import (
    ModelSet,
    clear_cache,
    device_name,
    limit_threads,
    load,
    memory_bytes,
    release,
    resolve_device,
)
from virnuc_dask.modelsets.source import ModelSource

Emit = Callable[[dict[str, Any]], None]


class Lifetime:
    """Keeps one process's model set, and tells ``emit`` when it comes and goes.

    With ``persistent`` it is loaded once by `open` and given back by `close`. Without, every
    `models` loads it and gives it back: slower, and a proof that the results do not depend on
    what a loaded model set has seen before.
    """

    def __init__(
        self, source: ModelSource, *, persistent: bool, clear_cache_every: int, emit: Emit
    ) -> None:
        self._source = source
        self._persistent = persistent
        self._clear_cache_every = clear_cache_every
        self._emit = emit
        self._resident: ModelSet | None = None
        self._loads = self._partitions = self._users = 0
        self._closed = False
        self._lock = threading.Lock()
        self._clock = DeviceClock()
        self._alone = threading.Lock()

    @property
    def mode(self) -> str:
        """``persistent`` or ``per_partition``, as the log names it."""
        return "persistent" if self._persistent else "per_partition"

    @property
    def device(self) -> str | None:
        """The device of the model set that stays, a GPU with its UUID; None without one."""
        return None if self._resident is None else device_name(self._resident.device)

    def open(self) -> None:
        """Load, if the model set is to stay; `ModelSetError` if it cannot be loaded."""
        with self._lock:
            self._closed = False
            if self._persistent and self._resident is None:
                self._resident = self._load()

    @contextmanager
    def models(self) -> Iterator[ModelSet]:
        """The model set, for one partition's stage.

        Raises
        ------
        ModelSetError
            If it cannot be loaded, or was to stay and is not there.
        """
        limit_threads(self._source.threads)
        with self._staying() if self._persistent else self._passing() as models:
            yield models

    def partition_done(self) -> None:
        """Count a partition; every so many, cached GPU memory is given back."""
        with self._lock:
            self._partitions += 1
            due = self._partitions % self._clear_cache_every == 0
        if due and self._resident is not None:
            self._clear_cache(self._resident.device)

    def close(self) -> None:
        """Give back whatever is loaded: now, or when the stages that use it end.

        A stage that computes runs on to its end, one that waits for its turn is turned away. Can be
        called again.
        """
        with self._lock:
            self._closed = True
            if self._resident is not None:
                self._resident.device_lock.close()
        self._give_back_if_unused()

    @contextmanager
    def _staying(self) -> Iterator[ModelSet]:
        with self._lock:
            if self._resident is None or self._closed:
                raise ReleasedError
            models = self._resident
            self._users += 1
        try:
            yield models
        finally:
            with self._lock:
                self._users -= 1
            self._give_back_if_unused()

    @contextmanager
    def _passing(self) -> Iterator[ModelSet]:
        with self._alone:  # a second one would need as much memory again
            models = self._load()
            try:
                yield models
            finally:
                self._release(models)

    def _give_back_if_unused(self) -> None:
        with self._lock:
            if self._users or not self._closed or self._resident is None:
                return
            models, self._resident = self._resident, None
        self._clear_cache(models.device)
        self._release(models)

    def _load(self) -> ModelSet:
        before, start = memory_bytes(resolve_device(self._source)), time.perf_counter()
        models = load(self._source, self._tell_encoder)
        models.device_lock.clock = self._clock
        self._loads += 1
        self._tell(
            "modelset_loaded",
            models.device,
            before,
            modelset=models.info.name,
            checksum=models.info.checksum,
            device=device_name(models.device),
            mode=self.mode,
            residency=models.residency,
            loads=self._loads,
            elapsed_s=round(time.perf_counter() - start, 3),
            weight_bytes=models.weight_bytes,
        )
        return models

    def _release(self, models: ModelSet) -> None:
        before = memory_bytes(models.device)
        release(models)
        name = models.info.name
        self._tell("modelset_released", models.device, before, modelset=name, mode=self.mode)

    def _clear_cache(self, device: str) -> None:
        before = memory_bytes(device)
        if clear_cache(device):
            self._tell("cache_cleared", device, before, partitions=self._partitions)

    def _tell(self, event: str, where: str, before: int, **details: Any) -> None:
        memory = {"memory_before_bytes": before, "memory_after_bytes": memory_bytes(where)}
        self._emit({"event": event, **details, **memory})

    def _tell_encoder(self, architecture: str, elapsed_s: float) -> None:
        told = {"encoder": architecture, "elapsed_s": round(elapsed_s, 3)}
        self._emit({"event": "encoder_loaded", **told})


_keeping = threading.Lock()


def lasting_models(source: ModelSource, clear_cache_every: int) -> Lifetime:
    """What holds a model set in this process beyond a run, loaded by the first call."""
    with _keeping:  # threads that come together load it once
        return _loaded(source, clear_cache_every)


@lru_cache(maxsize=2)  # what goes lives on until nothing uses it any more
def _loaded(source: ModelSource, every: int) -> Lifetime:
    lifetime = Lifetime(source, persistent=True, clear_cache_every=every, emit=lambda _: None)
    lifetime.open()
    return lifetime


def release_models() -> None:
    """Give back the model sets that `score`, `embed` and ``run(keep_models=True)`` keep here."""
    _loaded.cache_clear()
    gc.collect()
    clear_cache(resolve_device(ModelSource("", "")))
