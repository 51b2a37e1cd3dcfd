"""The main job: plan, execute, finish."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import xxhash
from distributed import Client
from rich.console import Console

from virnuc_dask.cluster.connect import Connection, connect
from virnuc_dask.cluster.execute import executing
from virnuc_dask.cluster.monitor import Journal, ProgressBar
from virnuc_dask.cluster.plugin import ResidenceSettings
from virnuc_dask.config import Settings
from virnuc_dask.errors import BadInputError, BadSettingError, BadTableError, PlanChangedError
from virnuc_dask.modelsets.registry import ModelSetInfo, find, read_info
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.outputs.results import Totals, write_results
from virnuc_dask.sequences.partitions import count_records, write_partitions
from virnuc_dask.sequences.records import STDIN, hash_inputs, read_records
from virnuc_dask.stages.receipt import Failure, Receipt
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import is_done
from virnuc_dask.tables.plan import (
    Counts,
    Decisions,
    Plan,
    fingerprint,
    read_plan,
    read_run_json,
    refuse_change,
    write_run_json,
)

_VERSIONS = ("dask", "distributed", "torch", "numpy", "pyarrow", "tokenizers", "fair-esm")


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
            ``chunks``, ``predictions``, ``features`` or ``partitions``.
        """
        if name == "chunks":
            return ds.dataset(self.folder / "chunks.parquet")
        return ds.dataset(sorted((self.folder / name).glob("part-*.parquet")))


@dataclass
class _Tally:
    """What came back from the partitions."""

    failures: list[Failure] = field(default_factory=list)
    computed: int = 0
    stage_s: dict[str, float] = field(default_factory=dict)
    cluster: dict[str, Any] = field(default_factory=dict)

    def add(self, receipt: Receipt) -> None:
        self.computed += 1
        for stage, elapsed_s in receipt.elapsed_s.items():
            self.stage_s[stage] = self.stage_s.get(stage, 0.0) + elapsed_s


@dataclass(frozen=True)
class _Job:
    """What all steps of one run share."""

    inputs: tuple[str, ...]
    folder: RunFolder
    settings: Settings
    info: ModelSetInfo
    journal: Journal
    console: Console | None = None
    client: Client | None = None
    start: float = field(default_factory=time.perf_counter)


def run(
    inputs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    settings: Settings | None = None,
    *,
    model: str | None = None,
    client: Client | None = None,
    resume: bool = False,
    force: bool = False,
    console: Console | None = None,
) -> Run:
    """Find the viral records of FASTA or FASTQ files.

    Parameters
    ----------
    inputs
        Paths; ``-`` is standard input.
    out
        The run folder. One that holds a run already needs ``resume`` or ``force``.
    settings
        Everything else; ``model`` overrides the model set in it.
    client
        A Dask client to work on; without, ``settings.cluster`` decides.
    console
        Where to draw a progress bar.

    Raises
    ------
    VirnucError
        See `virnuc_dask.errors`. Partitions that fail do not raise: they are in `Run.failures`.
    """
    settings = settings or Settings()
    settings = replace(settings, model=model) if model is not None else settings
    names = _existing(inputs)
    info = read_info(find(settings.model))
    chunk_length(settings, info)
    folder = RunFolder(Path(out))
    with folder.held():
        folder.prepare(resume=resume, force=force)
        with Journal.opened(folder.log) as journal:
            job = _Job(names, folder, settings, info, journal, console, client)
            plan = make_plan(job)
            tally = execute(plan, job)
            return finish(plan, tally, job)


def predict(
    out: str | os.PathLike[str],
    settings: Settings,
    *,
    model: str | None = None,
    client: Client | None = None,
    console: Console | None = None,
) -> Run:
    """Score the stored feature tables of a run again, with its own or another classifier.

    Raises
    ------
    PlanChangedError
        If ``model`` has other encoders than those that made the features.
    BadTableError
        If there is no finished run, or it kept no features.
    """
    folder = RunFolder(Path(out))
    earlier = read_plan(folder)
    if earlier is None:
        raise BadTableError(f"{folder.path}: no planned run here; make one with `run`.")
    with folder.held(), Journal.opened(folder.log) as journal:
        planned = read_run_json(folder)
        settings = replace(
            settings,
            model=model if model is not None else planned["settings"]["model"],
            precision=earlier.decisions.precision,
            features=True,
        )
        info = read_info(find(settings.model))
        job = _Job(tuple(planned["inputs"]), folder, settings, info, journal, console, client)
        plan = _plan_again(earlier, info)
        _write_plan(plan, job)
        tally = execute(plan, job, encoders=False)
        return finish(plan, tally, job)


def dry_run(inputs: Sequence[str | os.PathLike[str]], settings: Settings) -> Counts:
    """Read and check the input and the model set, and count; writes nothing."""
    names = _existing(inputs)
    info = read_info(find(settings.model))
    return count_records(read_records(names), chunk_length(settings, info))


def chunk_length(settings: Settings, info: ModelSetInfo) -> int:
    """The chunk length asked for, or the model set's own.

    Raises
    ------
    BadSettingError
        If the model set was not made for it.
    """
    length = settings.length if settings.length is not None else info.chunk_lengths[0]
    if length not in info.chunk_lengths:
        known = " or ".join(map(str, info.chunk_lengths))
        raise BadSettingError(f"model set {info.name!r} is for chunks of {known} nt, not {length}.")
    return length


def make_plan(job: _Job) -> Plan:
    """Read the input, write its partitions and ``run.json``; or find that it is all there.

    Raises
    ------
    BadInputError
        If the input cannot be read.
    PlanChangedError
        If the folder holds a run with other input, settings or weights.
    """
    job.journal.write(
        {
            "event": "run_started",
            "version": version("virnuc-dask"),
            "inputs": ", ".join(job.inputs),
            "out": str(job.folder.path),
        }
    )
    earlier = read_plan(job.folder)
    if earlier is not None and _partitions_intact(earlier):
        digest = xxhash.xxh3_128()
        hash_inputs(job.inputs, digest)
        plan = replace(earlier, decisions=_decide(job, digest.hexdigest()))
    else:
        plan = _plan_anew(job)
    if earlier is not None:
        refuse_change(job.folder, earlier.decisions, plan.decisions)
    plan = replace(plan, keep_features=job.settings.features)
    _write_plan(plan, job)
    _warn(plan, job)
    return plan


def execute(plan: Plan, job: _Job, *, encoders: bool = True) -> _Tally:
    """Compute every partition that is not done, here or on a cluster."""
    tasks = [task for task in plan.tasks() if not task.is_done]
    chunks_left = sum(task.chunks for task in tasks)
    job.journal.write(
        {
            "event": "planned",
            **asdict(plan.counts),
            "chunk_length": plan.decisions.chunk_length,
            "partitions": len(plan.partitions),
            "partitions_done": len(plan.partitions) - len(tasks),
        }
    )
    tally = _Tally()
    if not tasks:
        return tally
    settings, mode = job.settings, ResidenceSettings.of(job.settings)
    with connect(settings.cluster, _weight_bytes(settings), job.client) as connection:
        tally.cluster = _describe(connection)
        job.journal.write({"event": "cluster", **tally.cluster})
        source = ModelSource.from_settings(
            replace(settings, cluster=connection.settings), job.info, encoders=encoders
        )
        progress = ProgressBar(job.console, plan.counts.chunks, plan.counts.chunks - chunks_left)
        job.journal.write({"event": "modelset_loading", "modelset": job.info.name})
        with executing(tasks, connection, source, mode, job.journal) as outcomes, progress:
            for outcome in outcomes:
                _take_in(outcome, tally, job.journal, mode)
                if isinstance(outcome, Receipt):
                    progress.advance(outcome.chunks, outcome.frames)
    return tally


def finish(plan: Plan, tally: _Tally, job: _Job) -> Run:
    """Write the result files and the summary into ``run.json``.

    Raises
    ------
    LostRowsError
        If anything planned did not come out.
    """
    start = time.perf_counter()
    totals = write_results(plan, tally.failures)
    tally.stage_s["finish"] = time.perf_counter() - start
    elapsed_s = round(time.perf_counter() - job.start, 3)
    job.journal.write({"event": "run_done", "elapsed_s": elapsed_s})
    summary = _summary(plan, tally, totals, job) | {"elapsed_s": elapsed_s}
    _write_plan(plan, job, summary)
    return Run(job.folder.path, summary, tuple(tally.failures))


def _existing(inputs: Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Inputs as text, each of them there: nothing is started for a misspelt name."""
    names = tuple(os.fspath(name) for name in inputs)
    for name in names:
        if name != STDIN and not Path(name).exists():
            raise BadInputError(f"{name}: no such file.")
    return names


def _decide(job: _Job, input_digest: str) -> Decisions:
    return Decisions(
        input_digest=input_digest,
        chunk_length=chunk_length(job.settings, job.info),
        partition_chunks=job.settings.partition_chunks,
        precision=job.settings.precision,
        encoders_checksum=job.info.encoders_checksum,
        modelset_checksum=job.info.checksum,
    )


def _plan_anew(job: _Job) -> Plan:
    digest = xxhash.xxh3_128()
    length = chunk_length(job.settings, job.info)
    counts, partitions = write_partitions(
        read_records(job.inputs, digest),
        job.folder,
        length,
        job.settings.partition_chunks,
        lambda: fingerprint(digest.hexdigest(), length),
    )
    return Plan(job.folder, _decide(job, digest.hexdigest()), counts, partitions)


def _plan_again(earlier: Plan, info: ModelSetInfo) -> Plan:
    """The plan that scores the features of ``earlier`` with the classifier of ``info``."""
    if info.encoders_checksum != earlier.decisions.encoders_checksum:
        raise PlanChangedError(
            f"{earlier.folder.path}: its features were made by other encoders than those of "
            f"model set {info.name!r}; make a new run with it."
        )
    decisions = replace(earlier.decisions, modelset_checksum=info.checksum)
    plan = replace(earlier, decisions=decisions, rescore=True)
    for task in plan.tasks():
        path = plan.folder.features(task.index)
        if not is_done(path, task.features):
            raise BadTableError(f"{path}: missing or damaged; `run --resume --features` makes it.")
    return plan


def _partitions_intact(plan: Plan) -> bool:
    tables = [(plan.folder.partition(part.index), part.content) for part in plan.partitions]
    tables.append((plan.folder.records, plan.records_fingerprint))
    return all(is_done(path, content) for path, content in tables)


def _warn(plan: Plan, job: _Job) -> None:
    counts, length = plan.counts, plan.decisions.chunk_length
    warnings = {
        "the input holds no records; the result files hold their headers only.": not counts.records,
        f"{counts.duplicate_ids} record(s) repeat an id; they are kept apart by their place in the "
        "input (record_index).": counts.duplicate_ids,
        f"{counts.shorter_records} of {counts.records} records are shorter than the {length} nt "
        "that the model set was made for; their scores are less certain.": counts.shorter_records,
    }
    for message in (text for text, applies in warnings.items() if applies):
        job.journal.write({"event": "warning", "message": message})


def _weight_bytes(settings: Settings) -> int:
    folder = find(settings.model)
    return sum((folder / name).stat().st_size for name in read_info(folder).files)


def _describe(connection: Connection) -> dict[str, Any]:
    return {
        "kind": connection.kind,
        "workers": connection.workers,
        "threads": connection.settings.threads,
        "dashboard": connection.dashboard,
        "note": connection.note,
        "text": str(connection),
    }


def _take_in(
    outcome: Receipt | Failure, tally: _Tally, journal: Journal, mode: ResidenceSettings
) -> None:
    if isinstance(outcome, Failure):
        tally.failures.append(outcome)
        journal.write({"event": "partition_failed", **asdict(outcome)})
        return
    tally.add(outcome)
    total_s = round(sum(outcome.elapsed_s.values()), 3)
    done = {"event": "partition_done", **asdict(outcome), "total_s": total_s, "mode": mode.name}
    journal.write(done)


def _summary(plan: Plan, tally: _Tally, totals: Totals, job: _Job) -> dict[str, Any]:
    computed, failed = tally.computed, len(tally.failures)
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "cluster": tally.cluster,
        "records": plan.counts.records,
        **asdict(totals),
        "partitions": {
            "computed": computed,
            "failed": failed,
            "done_before": len(plan.partitions) - computed - failed,
        },
        "stage_s": {stage: round(spent, 3) for stage, spent in tally.stage_s.items()},
        "model_loads": list(job.journal.loads.values()),
    }


def _write_plan(plan: Plan, job: _Job, summary: Mapping[str, Any] | None = None) -> None:
    content = {
        "virnuc_dask": version("virnuc-dask"),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in _VERSIONS},
        "inputs": list(job.inputs),
        "settings": asdict(job.settings),
        "modelset": {
            "name": job.info.name,
            "version": job.info.version,
            "checksum": job.info.checksum,
            "files": dict(job.info.files),
        },
        "summary": summary,
        "plan": plan.as_json(),
    }
    write_run_json(plan.folder, content)
