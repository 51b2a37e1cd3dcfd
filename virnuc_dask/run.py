"""The main job: plan, execute, finish."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Client
from rich.console import Console

from virnuc_dask.cluster.connect import Connection, connect, reached, refuse_impossible
from virnuc_dask.cluster.hardware import Hardware, hardware_of
from virnuc_dask.cluster.journal import Journal, logger
from virnuc_dask.cluster.plugin import LifetimeSettings
from virnuc_dask.cluster.progress import ProgressBar
from virnuc_dask.cluster.submit import executing
from virnuc_dask.config import Settings
from virnuc_dask.errors import BadTableError, LostRowsError, PlanChangedError, UsageError
from virnuc_dask.modelsets.registry import ModelSetInfo, find, read_info
from virnuc_dask.modelsets.sizes import encoder_bytes
from virnuc_dask.outputs.results import Totals, write_results
from virnuc_dask.outputs.run_json import record_run
from virnuc_dask.planning import (
    call_rule,
    chunk_length,
    decided,
    make_plan,
    pieces_of,
    plan_again,
    source_of,
    warnings_of,
    warnings_of_speed,
)
from virnuc_dask.sequences.partitions import count_records
from virnuc_dask.sequences.records import STDIN, read_records
from virnuc_dask.stages.receipt import Failure, Tally
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import local
from virnuc_dask.tables.paths import Inputs, given_inputs, given_output
from virnuc_dask.tables.plan import Counts, PartitionTask, Plan, read_plan, read_run_json

if TYPE_CHECKING:
    import pyarrow.dataset as ds


_COLUMNS = {"partitions": schemas.PARTITION, "predictions": schemas.PREDICTIONS}


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its summary, and what failed."""

    folder: Path
    summary: Mapping[str, Any]
    failures: tuple[Failure, ...] = ()

    def dataset(self, name: str) -> ds.Dataset:
        """A table as an Arrow dataset, which pandas, polars, DuckDB and Dask read.

        Parameters
        ----------
        name
            ``chunks``, ``records``, ``predictions``, ``features`` or ``partitions``; ``genes`` of
            a run with a model set that reads genes.

        Raises
        ------
        UsageError
            If there is no table of this name.
        BadTableError
            If the run kept none.
        """
        # Imported here: it brings pandas along where that is installed.
        import pyarrow.dataset as ds

        files = self._tables(name)
        if not files and self.summary.get("frames"):
            raise BadTableError(
                f"{self.folder}: has no table {name!r}; `run --resume --features` makes it."
            )
        schema = None if files else _COLUMNS.get(name)  # of an empty input
        return ds.dataset([local(path) for path in files], schema=schema)

    def _tables(self, name: str) -> list[Path]:
        """The files of a table: those that were planned, and are there."""
        folder = RunFolder(self.folder)
        several = {
            "partitions": folder.partition,
            "features": folder.features,
            "predictions": folder.predictions,
        }
        alone = {"chunks": folder.output("chunks.parquet"), "records": folder.records}
        plan = read_plan(folder)
        if plan is not None and plan.decisions.reads_genes:
            alone["genes"] = folder.output("genes.parquet")
        if name in alone:
            return [alone[name]]
        if name not in several:
            known = ", ".join([*alone, *several])
            raise UsageError(f"no table {name!r}; there are {known}.")
        paths = [several[name](part.index) for part in plan.partitions] if plan else []
        return [path for path in paths if path.exists()]

    def require_complete(self) -> None:
        """Check that no chunk failed; `LostRowsError` if one did."""
        if self.failures:
            failed = sum(failure.chunks for failure in self.failures)
            part = "piece" if "genes" in self.summary else "chunk"
            raise LostRowsError(
                f"{failed} {part}(s) failed; they stand in {self.folder / 'failed.tsv'} with the "
                "reason. --resume tries them again."
            )


@dataclass(frozen=True)
class _Job:
    """What all steps of one run share."""

    inputs: tuple[str, ...]
    settings: Settings
    info: ModelSetInfo
    journal: Journal
    hardware: Hardware
    console: Console | None = None
    client: Client | None = None
    encoders: bool = True  # false: score what is stored
    start: float = field(default_factory=time.perf_counter)

    def tell(self, event: str, **details: Any) -> None:
        """Write an event into the log."""
        self.journal.write({"event": event, **details})


def run(
    inputs: Inputs,
    out: str | os.PathLike[str],
    model: str | None = None,
    *,
    settings: Settings | None = None,
    client: Client | None = None,
    resume: bool = False,
    force: bool = False,
    console: Console | None = None,
    keep: Sequence[str | os.PathLike[str]] = (),
) -> Run:
    """Find the viral records of FASTA or FASTQ files.

    Parameters
    ----------
    inputs
        A path, or several; ``-`` is standard input.
    out
        The run folder. One that holds a run already needs ``resume`` or ``force``.
    model
        The model set; default: that of ``settings``, which is ``mini`` where they do not say.
    settings
        Everything else; see `virnuc_dask.config`.
    client
        A Dask client to work on; without, ``settings.cluster`` decides.
    console
        Where to draw a progress bar.
    keep
        Files that must not be replaced, besides the inputs and the model set: what else was read.

    Raises
    ------
    VirnucError
        See `virnuc_dask.errors`. Partitions that fail do not raise: they are in `Run.failures`.
    """
    settings = _with_model(settings or Settings(), model)
    names = given_inputs(inputs)
    info = read_info(find(settings.model))
    # Refused before the folder is touched.
    call_rule(settings, info, chunk_length(settings, info))
    if client is None:
        refuse_impossible(settings.cluster)
    folder = RunFolder(given_output(out))
    with reached(settings.cluster, client) as client:
        hardware = hardware_of(settings.cluster, client)
        decided(settings, info, hardware)
        with folder.held():
            folder.prepare(resume=resume, force=force, read=(*names, find(settings.model), *keep))
            with Journal.opened(folder.log, info.units) as journal:
                earlier = read_plan(folder) if resume else None
                settings = decided(settings, info, hardware, earlier)
                job = _Job(names, settings, info, journal, hardware, console, client)
                shown = ", ".join("standard input" if name == STDIN else name for name in names)
                job.tell("run_started", inputs=shown, out=str(folder.path))
                record = None if resume else partial(_record, job)
                plan = make_plan(names, folder, settings, info, record)
                tally = execute(plan, job)
                return finish(plan, tally, job)


def predict(
    out: str | os.PathLike[str],
    model: str | None = None,
    *,
    settings: Settings | None = None,
    client: Client | None = None,
    console: Console | None = None,
    keep: Sequence[str | os.PathLike[str]] = (),
) -> Run:
    """Score the stored feature tables of a run again, with its own or another classifier.

    Raises
    ------
    PlanChangedError
        If ``model`` has other encoders than those that made the features.
    BadTableError
        If there is no planned run, or it kept no features.
    """
    folder = RunFolder(given_output(out))
    earlier = read_plan(folder)
    if earlier is None:
        raise BadTableError(f"{folder.path}: no planned run here; make one with `run`.")
    planned = read_run_json(folder)
    settings = _with_model(settings or Settings(), model or planned["settings"]["model"])
    settings = replace(
        settings,
        precision=earlier.decisions.precision,
        features_dtype=earlier.decisions.features_dtype,
        features=True,
    )
    info = read_info(find(settings.model))
    call_rule(settings, info, earlier.decisions.chunk_length)
    names = tuple(planned["inputs"])
    with (
        reached(settings.cluster, client) as client,
        folder.held(),
        Journal.opened(folder.log, info.units) as journal,
    ):
        if read_plan(folder) != earlier:
            raise PlanChangedError(f"{folder.path}: another run took its place just now.")
        folder.refuse_loss((*names, find(settings.model), *keep))
        hardware = hardware_of(settings.cluster, client)
        job = _Job(names, settings, info, journal, hardware, console, client, encoders=False)
        job.tell("run_started", inputs=f"features of {folder.path}", out=str(folder.path))
        plan = plan_again(earlier, info)
        tally = execute(plan, job)
        return finish(plan, tally, job)


def dry_run(inputs: Inputs, settings: Settings) -> Counts:
    """Read and check the input and the model set, and count; writes nothing, but warns."""
    info = read_info(find(settings.model))
    length = chunk_length(settings, info)
    call_rule(settings, info, length)
    counts = count_records(read_records(given_inputs(inputs)), length, pieces_of(info))
    for message in warnings_of(counts, info, length):
        logger.warning(message)
    return counts


def execute(plan: Plan, job: _Job) -> Tally:
    """Compute every partition that is not done, here or on a cluster."""
    _record(job, plan)
    tasks = [task for task in plan.tasks() if not task.is_done]
    job.tell(
        "planned",
        **asdict(plan.counts),
        chunk_length=plan.decisions.piece_nt or plan.decisions.chunk_length,
        partitions=len(plan.partitions),
        partitions_done=len(plan.partitions) - len(tasks),
    )
    for message in (
        *warnings_of(plan.counts, job.info, plan.decisions.chunk_length),
        *(
            warnings_of_speed(job.settings, job.info, job.hardware)
            if tasks and job.encoders
            else ()
        ),
    ):
        job.tell("warning", message=message)
    tally = Tally()
    plan.folder.sweep()
    if tasks:
        folder, precision = find(job.settings.model), job.settings.precision
        weights = encoder_bytes(folder, job.info, precision)
        with connect(job.settings.cluster, weights, job.client, len(tasks)) as connection:
            tally.cluster = _describe(connection, job.hardware)
            if connection.note:
                job.tell("note", message=connection.note)
            job.tell("cluster", text=str(connection), **tally.cluster)
            _compute(plan, tasks, connection, job, tally)
    tally.require_all(tasks)
    plan.folder.forget_unfinished()
    return tally


def finish(plan: Plan, tally: Tally, job: _Job) -> Run:
    """Write the result files and the summary into ``run.json``.

    Raises
    ------
    LostRowsError
        If anything planned did not come out.
    """
    start = time.perf_counter()
    rule = call_rule(job.settings, job.info, plan.decisions.chunk_length)
    totals = write_results(plan, tally.failures, rule)
    tally.stage_s["finish"] = time.perf_counter() - start
    elapsed_s = round(time.perf_counter() - job.start, 3)
    job.tell("run_done", elapsed_s=elapsed_s)
    summary = _summary(plan, tally, totals, job) | {"elapsed_s": elapsed_s}
    record_run(plan, job.inputs, job.settings, job.info, summary)
    return Run(plan.folder.path, summary, tuple(tally.failures))


def _compute(
    plan: Plan, tasks: Sequence[PartitionTask], connection: Connection, job: _Job, tally: Tally
) -> None:
    mode = LifetimeSettings.of(job.settings)
    settings = replace(job.settings, cluster=connection.settings)
    source = source_of(settings, job.info, job.hardware, encoders=job.encoders)
    chunks_left = sum(task.chunks for task in tasks)
    progress = ProgressBar(
        job.console, plan.counts.chunks, plan.counts.chunks - chunks_left, job.info.units
    )
    precision = job.settings.precision
    job.tell("modelset_loading", modelset=job.info.name, precision=precision)
    to_do = set(tasks)
    sound = next((task for task in plan.tasks() if task not in to_do), None)
    with executing(tasks, connection, source, mode, job.journal, sound) as outcomes, progress:
        for outcome in outcomes:
            tally.add(outcome)
            if isinstance(outcome, Failure):
                job.tell("partition_failed", **asdict(outcome), chunks=outcome.chunks)
                continue
            progress.advance(outcome.chunks, outcome.frames)
            total_s = round(sum(outcome.elapsed_s.values()), 3)
            job.tell("partition_done", **asdict(outcome), total_s=total_s, mode=mode.name)


def _with_model(settings: Settings, model: str | None) -> Settings:
    return settings if model is None else replace(settings, model=model)


def _record(job: _Job, plan: Plan) -> None:
    record_run(plan, job.inputs, job.settings, job.info)


def _describe(connection: Connection, hardware: Hardware) -> dict[str, Any]:
    return {
        "kind": connection.kind,
        "workers": connection.workers,
        "threads": connection.settings.threads,
        "device": hardware.device,
        "instructions": hardware.processor.instructions,  # of the weakest CPU
        "dashboard": connection.dashboard,
    }


def _summary(plan: Plan, tally: Tally, totals: Totals, job: _Job) -> dict[str, Any]:
    computed, failed = tally.computed, len(tally.failed_partitions)
    absent = () if plan.decisions.reads_genes else ("genes", "genes_virus")
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "cluster": tally.cluster,
        "records": plan.counts.records,
        **{name: value for name, value in asdict(totals).items() if name not in absent},
        "chunks_failed": tally.failed_chunks,
        "fdr": job.settings.fdr,
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
        "model_loads": list(job.journal.loads.values()),
    }
