"""The delayed graph of one partition."""

from __future__ import annotations

from uuid import uuid4

from dask.delayed import Delayed, delayed

from virnuc_dask.cluster.plugin import run_last_stage, run_stage
from virnuc_dask.stages.extract import extract
from virnuc_dask.stages.predict import extract_and_predict, predict
from virnuc_dask.tables.plan import PartitionTask


def partition_graph(task: PartitionTask, plugin_name: str, *, persistent: bool = True) -> Delayed:
    """Extract a partition's features, then predict from them: a chain that ends in a `Receipt`.

    Two tasks where the model set stays loaded, and one where it is loaded for each partition.
    Needs a `ModelPlugin` called ``plugin_name`` on the workers.
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
