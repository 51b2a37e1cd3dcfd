"""What to raise where nothing can be computed: what helps, or the bug that it is."""

from __future__ import annotations

from enum import Enum

from virnuc_dask.errors import BadTableError, LostRowsError, ModelSetError, NoClusterError
from virnuc_dask.stages.bad_chunks import reason_of
from virnuc_dask.stages.crash_marks import WorkerDiedError
from virnuc_dask.stages.receipt import CHUNK_FAILURES

KEPT = "What is done is kept: continue with --resume."


class Cause(Enum):
    """What may be to blame for a failure."""

    CHUNK = "a chunk"
    DEATH = "a chunk that kills the process that computes it"
    FILE = "a disk, a network, a damaged file"

    @classmethod
    def of(cls, error: BaseException) -> Cause:
        """What may be to blame for an error that a task raised."""
        if isinstance(error, WorkerDiedError):
            return cls.DEATH
        return cls.CHUNK if isinstance(error, CHUNK_FAILURES) else cls.FILE


def fault_behind(error: BaseException) -> BaseException:
    """What to raise where everything fails as with ``error``, and no chunk is to blame."""
    if Cause.of(error) is Cause.DEATH:
        return NoClusterError(
            "workers die whatever they compute, and their own logs say why: out of memory, or "
            f"instructions that their processor has not? No chunk is to blame. {KEPT}"
        )
    # torch's by its name: the client does not import torch.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return NoClusterError(
            f"memory does not hold a single chunk beside the model set ({reason_of(error)}). Use "
            f"fewer workers, a lower precision, or a machine with more memory. {KEPT}"
        )
    if isinstance(error, LostRowsError):
        return ModelSetError(
            f"every chunk fails alike: {error} The model set is damaged, or does not compute in "
            f"this precision; try --precision fp32. {KEPT}"
        )
    if Cause.of(error) is Cause.FILE:
        return BadTableError(
            f"every partition fails alike: {reason_of(error)} Is its disk there? {KEPT}"
        )
    error.add_note(
        "Single chunks and whole partitions fail alike: this is a bug, or a machine that cannot "
        f"compute this. No chunk was marked as failed. {KEPT}"
    )
    return error
