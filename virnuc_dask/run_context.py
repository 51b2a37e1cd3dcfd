"""What the steps of a run share, and what they tell the log and the dashboard."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distributed import Client
from rich.console import Console

from virnuc_dask.cluster.connect import Connection
from virnuc_dask.cluster.hardware import Hardware, describe
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.config import Settings
from virnuc_dask.modelsets.manifest import ModelSetInfo
from virnuc_dask.outputs.run_json import record_run
from virnuc_dask.planning import warnings_of, warnings_of_speed
from virnuc_dask.stages.receipt import Receipt, Tally
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.paths import STDIN
from virnuc_dask.tables.plan import PartitionTask, Plan

_SHOWN = 3  # inputs that are named


@dataclass(frozen=True)
class RunContext:
    """What all steps of one run share."""

    inputs: tuple[str, ...]
    folder: RunFolder
    settings: Settings
    info: ModelSetInfo
    journal: Journal
    hardware: Hardware
    console: Console | None = None
    client: Client | None = None
    encoders: bool = True  # false: score what is stored
    report: Path | None = None  # file for Dask's report
    keep_models: bool = False  # in this process, for the next run
    start: float = field(default_factory=time.perf_counter)

    def tell(self, event: str, **details: Any) -> None:
        """Write an event into the log."""
        self.journal.write({"event": event, **details})

    def warn(self, messages: Iterator[str]) -> None:
        """Write warnings into the log."""
        for message in messages:
            self.tell("warning", message=message)

    def record(self, plan: Plan, summary: dict[str, Any] | None = None) -> None:
        """Write ``run.json``."""
        record_run(plan, self.inputs, self.settings, self.info, summary)

    def tell_plan(self, plan: Plan, to_do: Sequence[PartitionTask]) -> None:
        """Log what is to be computed, and what the user should know about it."""
        decisions = plan.decisions
        self.tell(
            "planned",
            **asdict(plan.counts),
            **self.info.units._asdict(),
            modelset=self.info.name,
            precision=self.settings.precision,
            mode=self.settings.mode,
            chunk_length=decisions.piece_nt or decisions.chunk_length,
            partitions=len(plan.partitions),
            partitions_done=len(plan.partitions) - len(to_do),
            chunks_done=plan.counts.chunks - sum(task.chunks for task in to_do),
        )
        self.warn(warnings_of(plan.counts, self.info, decisions.chunk_length))
        if to_do and self.encoders:
            self.warn(warnings_of_speed(self.settings, self.info, self.hardware))

    def tell_cluster(self, connection: Connection, tally: Tally) -> None:
        """Log where the run computes, and keep it for the summary."""
        tally.cluster = describe(connection, self.hardware)
        if connection.note:
            self.tell("note", message=connection.note)
        self.tell("cluster", text=str(connection), **tally.cluster)
        self.tell("modelset_loading", modelset=self.info.name, precision=self.settings.precision)

    def tell_receipt(self, receipt: Receipt) -> None:
        """Log what came of a partition."""
        for failure in receipt.failures:
            self.tell("partition_failed", **asdict(failure), chunks=failure.chunks)
        if receipt.chunks:
            told = {key: value for key, value in asdict(receipt).items() if key != "failures"}
            total_s = round(sum(receipt.elapsed_s.values()), 3)
            self.tell("partition_done", **told, total_s=total_s, mode=self.settings.mode)


def shown(inputs: Sequence[str]) -> str:
    """Names of inputs, the first ones, for people."""
    names = ["standard input" if name == STDIN else name for name in inputs[:_SHOWN]]
    more = [f"and {len(inputs) - _SHOWN} more"] if len(inputs) > _SHOWN else []
    return " ".join([", ".join(names), *more])
