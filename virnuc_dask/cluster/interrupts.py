"""Preloaded by the workers that we start: an interrupt is the client's to handle.

Ctrl-C in a terminal reaches every process of the run. Workers that died of it at once would be
restarted by their nannies while the client closes the run in order.
"""

import logging
import signal
from asyncio import CancelledError

from distributed import Worker


def dask_setup(worker: Worker) -> None:
    """Leave interrupts to the client, which closes its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("distributed.worker").addFilter(_is_news)
    # It warns of every task that the client cancels.
    logging.getLogger("distributed.worker.state_machine").setLevel(logging.ERROR)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether the client does not know it: it gets every task's error, and closes the scheduler."""
    if record.exc_info and record.exc_info[0] is CancelledError:
        return False
    known = ("Compute Failed", "Failed to communicate with scheduler during heartbeat")
    return not str(record.msg).startswith(known)
