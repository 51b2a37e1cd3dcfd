"""What a cluster answers, within a time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from distributed import Client

from virnuc_dask.errors import NoClusterError

# Dask tries 30 s to reach a worker that is gone, and a worker may have to import torch from a slow
# disk before it answers.
_ANSWER_S, _TRIES = 60.0, 2


def answer(client: Client, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a method of ``client`` returns, which would wait for ever by itself.

    `NoClusterError` if the cluster goes away, or does not answer for two minutes. Raises whatever a
    worker raises.
    """
    try:
        for _ in range(_TRIES - 1):  # a suspension takes the time away, too
            with suppress(TimeoutError):
                return client.sync(call, *args, callback_timeout=_ANSWER_S, **kwargs)
        return client.sync(call, *args, callback_timeout=_ANSWER_S, **kwargs)
    except (OSError, ValueError) as error:  # no connection, or a client that gave up on it
        raise NoClusterError(
            f"the cluster went away ({_reason(error)}). What is done is kept: once it is back, "
            "continue with --resume."
        ) from error


def _reason(error: Exception) -> str:
    # A call whose time is up in the event loop raises an error without a text.
    if isinstance(error, TimeoutError):
        return f"no answer for {_TRIES * _ANSWER_S:g} s"
    return str(error) or type(error).__name__
