"""A worker in a batch system's job: it ends before the job does, which counts against no chunk."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import Any

from distributed import Status, Worker

from virnuc_dask.stages.crash_marks import forgive_death

_POLL_S = 0.2  # between two looks whether something is still computed


class JobWorker(Worker):
    """Ends between two partitions: by its lifetime, and when its job is told to end.

    Dask's own worker would leave at once what it computes, to be computed again elsewhere; and a
    process that dies while it computes a partition casts doubt on it.
    """

    async def start_unsafe(self) -> Any:
        """Start, and listen for the signal by which batch systems announce the end of a job."""
        # Only a process's main thread can listen: the one of a nanny's worker.
        with suppress(ValueError, RuntimeError, NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end_is_near)
        return await super().start_unsafe()  # type: ignore[no-untyped-call]

    def _end_is_near(self) -> None:
        forgive_death()
        asyncio.create_task(self.close_gracefully(reason="its job ends"))  # noqa: RUF006

    async def close_gracefully(self, restart: bool | None = None, reason: str = "") -> None:
        """Take nothing new, compute what is in work to its end, then leave."""
        if self.status != Status.running:
            return
        self.status = Status.closing_gracefully
        while self.state.executing_count:
            await asyncio.sleep(_POLL_S)
        await self._leave(workers=[self.address], close_workers=False, remove=True)
        await self.close(nanny=not restart, reason=reason)

    async def close(self, *arguments: Any, **options: Any) -> Any:
        """End; where only the nanny was told that the job ends, it says so."""
        if str(options.get("reason")).startswith("signal-"):
            forgive_death()
        return await super().close(*arguments, **options)

    async def _leave(self, **how: Any) -> None:
        """Have the scheduler give what waits here to others; a scheduler that is gone cannot."""
        with suppress(OSError):
            await self.scheduler.retire_workers(stimulus_id=f"{self.name}-ends", **how)
