"""Which workers there are, and whether waiting for them still makes sense."""

from __future__ import annotations

import time

from distributed import Client

from virnuc_dask.cluster.answers import answer
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.cluster.machine_faults import KEPT
from virnuc_dask.errors import NoClusterError, WorkerRefusedError

_LOOK_S = 0.5  # between two questions to the scheduler, whose answer names every worker
_LIVES = 10  # workers that may come, for each one there is, before one of them gets something done


class WorkerWatch:
    """The workers of a cluster, looked at again and again."""

    def __init__(self, client: Client, journal: Journal, timeout_s: float) -> None:
        self._client = client
        self._journal = journal
        self._refused = journal.refused
        self.timeout_s = timeout_s
        self._last_seen = self._last_progress = time.monotonic()
        self._looked = -_LOOK_S  # when, and who was there
        self._there: list[str] = []
        self._came: set[str] = set()  # since the last progress
        self._most = 1  # workers there at a time
        self.fit: list[str] = []  # addresses of those that can compute
        self.beside_refused = False  # whether a worker that can compute nothing is there

    def look(self) -> None:
        """See which workers there are.

        Raises if there has been none for too long, or they come and die.
        """
        if time.monotonic() - self._looked >= _LOOK_S:
            self._there = list(answer(self._client, self._client.nthreads))
            self._looked = time.monotonic()
        there = self._there
        self.fit = [address for address in there if address not in self._refused]
        self.beside_refused = len(self.fit) < len(there)
        self._journal.workers = len(self.fit)
        self._came.update(there)
        self._most = max(self._most, len(there))
        now = time.monotonic()
        if self.fit:
            self._last_seen = now
        if len(self._came) > _LIVES * self._most and now - self._last_progress > self.timeout_s:
            self._give_up(
                f"workers die before they compute anything: {len(self._came)} came. Their own logs "
                "say why; out of memory while loading?"
            )
        if now - self._last_seen > self.timeout_s:
            self._give_up(f"the cluster has had no worker for {self.timeout_s:.0f} s.")

    def room(self, in_flight: int) -> int:
        """How many tasks may run at a time; none where every worker there is refused.

        Some where none is there: an adaptive cluster starts workers for tasks that wait.
        """
        return in_flight * max(len(self.fit), 0 if self.beside_refused else 1)

    def refuse(self, error: WorkerRefusedError) -> None:
        """Give a worker that can compute nothing no more tasks."""
        self._journal.refuse(error.address, error.why)

    def progress(self) -> None:
        """Something was computed."""
        self._came.clear()
        self._last_progress = time.monotonic()

    def _give_up(self, why: str) -> None:
        for refusal in self._refused.values():
            raise type(refusal)(f"no worker can compute: {refusal} {KEPT}")
        raise NoClusterError(f"{why} {KEPT}")
