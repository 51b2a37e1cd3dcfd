"""The delayed graph: one chain a partition."""

from __future__ import annotations

from dask.delayed import Delayed, delayed

from virnuc_dask.cluster.plugin import run_last_stage, run_stage
from virnuc_dask.stages.extract import extract
from virnuc_dask.stages.predict import predict
from virnuc_dask.tables.plan import PartitionTask, Plan


def build_graph(plan: Plan, plugin_name: str) -> list[Delayed]:
    """The whole run as delayed chains, one a partition, each ending in a `Receipt`.

    Needs a `ModelPlugin` called ``plugin_name`` on the workers that compute it.
    """
    return [chain(task, plugin_name) for task in plan.tasks()]


def chain(task: PartitionTask, plugin_name: str) -> Delayed:
    """Extract a partition's features, then predict from them."""
    key = f"{task.index:05d}-{task.predictions[:12]}-{plugin_name}"
    extracted = delayed(run_stage, pure=False)(
        extract, plugin_name, task, dask_key_name=f"extract-{key}"
    )
    predicted: Delayed = delayed(run_last_stage, pure=False)(
        predict, plugin_name, task, extracted, dask_key_name=f"predict-{key}"
    )
    return predicted
