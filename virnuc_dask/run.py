"""The main job: plan, execute, finish."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from distributed import Client
from rich.console import Console

from virnuc_dask.cluster.batch_systems import submitted
from virnuc_dask.cluster.connect import Connection, connect, reached, refuse_impossible
from virnuc_dask.cluster.dashboard.monitor import watched
from virnuc_dask.cluster.hardware import hardware_of
from virnuc_dask.cluster.job_scripts import with_workers
from virnuc_dask.cluster.journal import Journal
from virnuc_dask.cluster.performance import refuse_report, reporting
from virnuc_dask.cluster.progress import ProgressBar
from virnuc_dask.cluster.submit import executing
from virnuc_dask.config import Settings
from virnuc_dask.errors import BadTableError, PlanChangedError
from virnuc_dask.modelsets.manifest import find, read_info
from virnuc_dask.modelsets.sizes import encoder_bytes
from virnuc_dask.outputs.finished_run import Run
from virnuc_dask.outputs.multiqc import write_for_pipelines
from virnuc_dask.outputs.report.page import REPORT, write_report
from virnuc_dask.outputs.results import write_results
from virnuc_dask.outputs.run_json import summary_of
from virnuc_dask.planning import (
    call_rule,
    chunk_length,
    decided,
    make_plan,
    plan_again,
    source_of,
)
from virnuc_dask.run_context import RunContext, shown
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.stages.crash_marks import tidy_marks
from virnuc_dask.stages.receipt import Tally
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.inputs import Given, Inputs, Pairs, Source, given_inputs
from virnuc_dask.tables.parquet import count_rows
from virnuc_dask.tables.paths import given_output
from virnuc_dask.tables.plan import PartitionTask, Plan, read_plan, read_run_json

__all__ = ["Run", "predict", "run"]


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
    performance_report: str | os.PathLike[str] | None = None,
    keep_models: bool = False,
    reads: Pairs = (),
    paired: bool | None = None,
) -> Run:
    """Find the viral records of FASTA, FASTQ or BAM files.

    Parameters
    ----------
    inputs
        A path, or several: files, folders of files, patterns, lists of paths as ``@FILE``; ``-`` is
        standard input.
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
    performance_report
        Where to write Dask's report on its workers: a page, whose name ends in ``.html``.
    keep_models
        Without a cluster (kind ``none``): keep the model set loaded in this process for the next
        run that asks for it so; `virnuc_dask.release_models` gives it back.
    reads
        Pairs of files: first mates, and second ones in the same order. They come after ``inputs``.
    paired
        Whether neighbours in ``inputs`` are mates, if they are named alike; default: those whose
        flags say so, in BAM or CRAM files.

    Raises
    ------
    VirnucError
        See `virnuc_dask.errors`. Chunks that fail do not raise: they are in `Run.failures`.
    """
    settings = settings or Settings()
    settings = replace(settings, model=model or settings.model)
    given, folder = given_inputs(inputs, reads, paired), RunFolder(given_output(out))
    report = None if performance_report is None else given_output(performance_report)
    begun = _begun(given, folder, settings, client, keep, report, resume=resume, force=force)
    with begun as context:
        context = replace(context, console=console, keep_models=keep_models)
        return _run(context, given.sources, resume=resume)


@contextmanager
def _begun(
    given: Given,
    folder: RunFolder,
    settings: Settings,
    client: Client | None,
    keep: Sequence[str | os.PathLike[str]],
    report: Path | None,
    *,
    resume: bool,
    force: bool,
) -> Iterator[RunContext]:
    """Hold the folder, make it ready, and open its log; what cannot be is refused before."""
    info = read_info(find(settings.model))
    call_rule(settings, info, chunk_length(settings, info))
    if client is None:
        refuse_impossible(settings.cluster)
    if report is not None:
        refuse_report(report, settings.cluster, folder.path)
    with reached(settings.cluster, client) as client:
        hardware = hardware_of(settings.cluster, client)
        decided(settings, info, hardware)
        with folder.held():
            folder = folder.named(settings.prefix, resume=resume)
            settings = replace(settings, prefix=folder.prefix or None)
            read = (*given.paths, *given.lists, find(settings.model), *keep)
            folder.prepare(resume=resume, force=force, read=read)
            with Journal.opened(folder.log, info.units, shown(given.paths)) as journal:
                shared = (given.paths, folder, settings, info, journal, hardware)
                context = RunContext(*shared, client=client, report=report)
                context.warn(given.warnings())
                yield context


def _run(context: RunContext, sources: Sequence[Source], *, resume: bool) -> Run:
    with _on_jobs(context) as context:
        folder, info = context.folder, context.info
        earlier = read_plan(folder) if resume else None
        settings = decided(context.settings, info, context.hardware, earlier)
        context = replace(context, settings=settings)
        record = None if resume else context.record
        plan = make_plan(sources, folder, settings, info, record)
        return finish(plan, execute(plan, context), context)


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

    Raises `PlanChangedError` if ``model`` has other encoders than those that made the features,
    `BadTableError` if there is no planned run, or it kept no features.
    """
    folder = RunFolder.of_run(given_output(out))
    earlier = read_plan(folder)
    if earlier is None:
        raise BadTableError(f"{folder.path}: no planned run here; make one with `run`.")
    planned = read_run_json(folder)
    settings = replace(
        settings or Settings(),
        model=model or planned["settings"]["model"],
        precision=earlier.decisions.precision,
        features_dtype=earlier.decisions.features_dtype,
        features=True,
        prefix=folder.prefix or None,
    )
    info = read_info(find(settings.model))
    call_rule(settings, info, earlier.decisions.chunk_length)
    names = tuple(planned["inputs"])
    with (
        reached(settings.cluster, client) as client,
        folder.held(),
        Journal.opened(folder.log, info.units, f"features of {folder.path}") as journal,
    ):
        if read_plan(folder) != earlier:
            raise PlanChangedError(f"{folder.path}: another run took its place just now.")
        folder.refuse_loss((*names, find(settings.model), *keep))
        hardware = hardware_of(settings.cluster, client)
        context = RunContext(
            names, folder, settings, info, journal, hardware, console, client, encoders=False
        )
        with _on_jobs(context) as context:
            plan = plan_again(earlier, info)
            return finish(plan, execute(plan, context), context)


@contextmanager
def _on_jobs(context: RunContext) -> Iterator[RunContext]:
    """On the workers of a batch system's jobs, where one is to compute; else as given."""
    if context.client is not None or context.settings.cluster.batch_system is None:
        yield context
        return
    cluster = with_workers(context.settings.cluster)
    settings = replace(context.settings, cluster=cluster)
    folder = context.folder.jobs
    with submitted(cluster, folder, lambda line: context.tell("note", message=line)) as client:
        hardware, start = hardware_of(cluster, client), time.perf_counter()
        # A queue's time is not the run's.
        yield replace(context, settings=settings, client=client, hardware=hardware, start=start)


def execute(plan: Plan, context: RunContext) -> Tally:
    """Compute every partition that is not done, here or on a cluster."""
    context.record(plan)
    tasks = [task for task in plan.tasks() if not task.is_done]
    context.tell_plan(plan, tasks)
    tally = Tally()
    plan.folder.sweep()
    tidy_marks(plan.folder, {task.name for task in tasks})
    if tasks:
        folder, settings = find(context.settings.model), context.settings
        weights = encoder_bytes(folder, context.info, settings.precision)
        with (
            connect(settings.cluster, weights, context.client, len(tasks)) as connection,
            reporting(connection.client, context.report, context.journal),
        ):
            _compute(plan, tasks, connection, context, tally)
    tally.require_all(tasks)
    failed = tally.failed_partitions
    tidy_marks(plan.folder, {task.name for task in tasks if task.index in failed})
    return tally


def finish(plan: Plan, tally: Tally, context: RunContext) -> Run:
    """Write the result files and the summary into ``run.json``.

    `LostRowsError` if anything planned did not come out.
    """
    start = time.perf_counter()
    rule = call_rule(context.settings, context.info, plan.decisions.chunk_length)
    totals = write_results(plan, tally.failures, rule, formats=context.settings.formats)
    write_for_pipelines(plan.folder, context.info)
    tally.stage_s["finish"] = time.perf_counter() - start
    elapsed_s = round(time.perf_counter() - context.start, 3)
    context.tell("run_done", elapsed_s=elapsed_s)
    loads = list(context.journal.loads.values())
    summary = summary_of(plan, tally, totals, context.settings.fdr, loads)
    summary["elapsed_s"] = elapsed_s
    context.record(plan, summary)
    _report(plan, rule, context)
    context.record(plan, summary)  # once more, with the size of the report
    return Run(plan.folder.path, summary, tuple(tally.failures), rule)


def _report(plan: Plan, rule: CallRule, context: RunContext) -> None:
    plan.folder.output(REPORT).unlink(missing_ok=True)  # of an earlier run
    if context.settings.report:
        try:
            write_report(plan.folder, rule)
        except BadTableError as error:  # the results are there, and fit for all else
            context.tell("warning", message=f"{REPORT} could not be made: {error}")


def _compute(
    plan: Plan,
    tasks: Sequence[PartitionTask],
    connection: Connection,
    context: RunContext,
    tally: Tally,
) -> None:
    """Compute partitions where ``connection`` says, and count what comes of them."""
    settings = replace(context.settings, cluster=connection.settings)
    source = source_of(settings, context.info, context.hardware, encoders=context.encoders)
    journal = context.journal
    control = _computed_before(plan, tasks)
    with watched(connection, journal) as connection:
        context.tell_cluster(connection, tally)
        work = (tasks, connection, source, settings, journal, control)
        with (
            executing(*work, lasting=context.keep_models) as receipts,
            ProgressBar(context.console, journal),
            journal.telling_end(),
        ):
            for receipt in receipts:
                tally.add(receipt)
                context.tell_receipt(receipt)


def _computed_before(plan: Plan, tasks: Sequence[PartitionTask]) -> PartitionTask | None:
    """A partition that an earlier run computed, and that holds anything."""
    to_do = set(tasks)
    done = (task for task in plan.tasks() if task not in to_do)
    return next((task for task in done if count_rows(task.predictions_path)), None)
