"""The delayed graph: one chain a partition."""

from __future__ import annotations

from uuid import uuid4

from dask.delayed import Delayed, delayed

from virnuc_dask.cluster.plugin import run_last_stage, run_stage
from virnuc_dask.stages.extract import extract
from virnuc_dask.stages.predict import extract_and_predict, predict
from virnuc_dask.tables.plan import PartitionTask, Plan


def build_graph(plan: Plan, plugin_name: str) -> list[Delayed]:
    """The whole run as delayed chains, one a partition, each ending in a `Receipt`.

    Needs a `ModelPlugin` called ``plugin_name`` on the workers that compute it.
    """
    return [chain(task, plugin_name) for task in plan.tasks()]


def chain(task: PartitionTask, plugin_name: str, *, persistent: bool = True) -> Delayed:
    """Extract a partition's features, then predict from them.

    Two tasks where the model set stays loaded, and one where it is loaded for each partition.
    """
    # A task that comes again is a new one to Dask, which remembers failures by name.
    key = f"{task.name}-{uuid4().hex[:12]}-{plugin_name}"
    last = delayed(run_last_stage, pure=False)
    if not persistent:
        both: Delayed = last(
            extract_and_predict, plugin_name, task, dask_key_name=f"extract_and_predict-{key}"
        )
        return both
    extracted = delayed(run_stage, pure=False)(
        extract, plugin_name, task, dask_key_name=f"extract-{key}"
    )
    predicted: Delayed = last(predict, plugin_name, task, extracted, dask_key_name=f"predict-{key}")
    return predicted
