"""The model set of a run: loaded before its partitions are computed, released on the way out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from distributed import Client

from virnuc_dask.cluster.answers import answer
from virnuc_dask.cluster.journal import Journal, subscribed, wait_for_releases
from virnuc_dask.cluster.plugin import ModelPlugin, check_workers, count_loaded
from virnuc_dask.config import Settings
from virnuc_dask.errors import NoClusterError
from virnuc_dask.modelsets.source import ModelSource

if TYPE_CHECKING:
    from virnuc_dask.modelsets.lifetime import Lifetime

HERE = "client"  # what the log calls the worker where there is no cluster


@contextmanager
def models_here(source: ModelSource, settings: Settings, journal: Journal) -> Iterator[Lifetime]:
    """Load in this process."""
    # Imported only here: a client with a cluster never needs torch.
    from virnuc_dask.modelsets.lifetime import Lifetime

    identity = {"worker": HERE, "pid": os.getpid()}
    lifetime = Lifetime(
        source,
        persistent=settings.persistent_models,
        clear_cache_every=settings.memory.clear_cache_every,
        emit=lambda event: journal.write({**event, **identity}),
    )
    try:
        lifetime.open()
        yield lifetime
    finally:
        lifetime.close()


@contextmanager
def models_on(client: Client, plugin: ModelPlugin, journal: Journal) -> Iterator[None]:
    """Load on every worker, and on those that come later; release on the way out, always."""
    with subscribed(client, plugin.topic, journal):
        try:
            # A worker that dies while it loads: those that come have the plugin all the same.
            with suppress(NoClusterError):
                answer(client, client.register_plugin, plugin)
            check_workers(client, plugin.name, journal)
            yield
        finally:
            # A worker, or a whole cluster, that is gone has nothing to give back.
            with suppress(KeyError, NoClusterError):
                expected = journal.released + count_loaded(client, plugin.name)
                answer(client, client.unregister_worker_plugin, plugin.name)
                wait_for_releases(journal, expected)
