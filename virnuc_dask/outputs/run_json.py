"""``run.json``: what was done, with what, and what came out."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from virnuc_dask.config import Settings
from virnuc_dask.modelsets.manifest import ModelSetInfo
from virnuc_dask.outputs.totals import Totals
from virnuc_dask.stages.receipt import Tally
from virnuc_dask.tables.plan import Plan, write_run_json
from virnuc_dask.tables.schemas import RESULTS_VERSION

_PACKAGES = ("dask", "distributed", "torch", "numpy", "pyarrow", "tokenizers")


def record_run(
    plan: Plan,
    inputs: Sequence[str],
    settings: Settings,
    info: ModelSetInfo,
    summary: Mapping[str, Any] | None = None,
) -> None:
    """Write ``run.json``: once the plan is made, and again with the summary once it is done."""
    write_run_json(
        plan.folder,
        {
            "virnuc_dask": version("virnuc-dask"),
            "versions": {"python": platform.python_version()} | {p: version(p) for p in _PACKAGES},
            "result_tables": RESULTS_VERSION,
            "inputs": list(inputs),
            "settings": asdict(settings),
            "modelset": {
                "name": info.name,
                "version": info.version,
                "checksum": info.checksum,
                "files": dict(info.files),
                **({"reading": info.reading} if info.reads_genes else {}),
                **({"contig_model": info.calls_checksum} if info.contig_model else {}),
            },
            "summary": summary,
            # With their sizes, so that what others put in their place is told apart. Until the run
            # is done it can be any of them.
            "outputs": None if summary is None else plan.folder.output_sizes(),
            "plan": plan.as_json(),
        },
    )


def summary_of(
    plan: Plan,
    tally: Tally,
    totals: Totals,
    fdr: float | None,
    model_loads: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """What came out of a run: its counts and times."""
    computed, failed = tally.computed, len(tally.failed_partitions)
    absent = [] if plan.decisions.reads_genes else ["genes", "genes_virus"]
    absent += [] if totals.pairs else ["pairs"]
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "cluster": tally.cluster,
        "records": plan.counts.records,
        **{name: value for name, value in asdict(totals).items() if name not in absent},
        "chunks_failed": tally.failed_chunks,
        "fdr": fdr,
        "partitions": {
            "computed": computed,
            "failed": failed,
            "done_before": len(plan.partitions) - computed - failed,
        },
        # Frames that this run embedded, and the distinct texts that each encoder saw of them.
        "embedded": tally.embedded,
        "stage_s": {stage: round(spent, 3) for stage, spent in tally.stage_s.items()},
        # Between the computing of one partition and of the next, all workers together.
        "device_idle_s": round(tally.device_idle_s, 3),
        "model_loads": list(model_loads),
    }
