"""The plan of a run: what there is to do, and the fingerprints that prove it done."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import xxhash

from virnuc_dask.checks import build, checked
from virnuc_dask.errors import BadTableError, PlanChangedError
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import is_done, written_whole


def fingerprint(*parts: object) -> str:
    """A 128-bit hash of ``parts`` and the schema version, hexadecimal."""
    return xxhash.xxh3_128_hexdigest(json.dumps([schemas.VERSION, *parts]).encode())


@checked
class Decisions:
    """All that decides the results of a run. Paths, dates, workers and batches do not."""

    input_digest: str  # xxh3-128 of the input's raw bytes
    chunk_length: int
    partition_chunks: int
    precision: str
    encoders_checksum: str
    modelset_checksum: str
    features_dtype: str = "float32"
    # Of a model set that reads genes; None for one that reads frames.
    gene_caller: str | None = None
    piece_nt: int | None = None
    overlap_nt: int | None = None
    partition_nt: int | None = None
    sources: str | None = None  # `Source.mark` of all; None of a run of an earlier version

    @property
    def reads_genes(self) -> bool:
        """Whether a chunk is a long piece of a record, and a row of the tables a gene."""
        return self.gene_caller is not None

    @property
    def records_fingerprint(self) -> str:
        """Fingerprint of the record table."""
        pieces = (self.piece_nt, self.overlap_nt) if self.reads_genes else ()
        sources = () if self.sources is None else (self.sources,)
        return fingerprint(self.input_digest, self.chunk_length, *pieces, *sources)


# What a decision is called for people.
DECISION_NAMES = {
    "input_digest": "input",
    "sources": "samples or pairs",
    "chunk_length": "chunk length",
    "partition_chunks": "chunks per partition",
    "precision": "precision",
    "encoders_checksum": "model set (encoders)",
    "modelset_checksum": "model set",
    "features_dtype": "features dtype",
    "gene_caller": "gene caller",
    "piece_nt": "length of pieces",
    "overlap_nt": "overlap of pieces",
    "partition_nt": "nucleotides per partition",
}


@checked
class Counts:
    """How much the input holds."""

    records: int
    chunks: int
    length_nt: int
    duplicate_ids: int
    shorter_records: int  # records shorter than the chunk length
    rna_records: int = 0  # records that had U, read as T
    pairs: int = 0  # of two records each, mates
    lone_mates: int = 0  # records whose mate is not there
    left_out: int = 0  # secondary and supplementary alignments


@checked
class PlannedPartition:
    """A partition file: its number, its chunks, the hash of its content."""

    index: int
    chunks: int
    content: str


Rows = tuple[int, int]
"""Rows of a partition, from the first up to, not including, the second."""


@dataclass(frozen=True, slots=True)
class PartitionTask:
    """What a worker is told of a partition: paths and fingerprints, never sequences."""

    folder: RunFolder
    index: int
    chunks: int
    content: str
    features: str  # fingerprint of the feature table
    predictions: str  # fingerprint of the prediction table
    keep_features: bool
    rescore: bool = False  # predict again even where predictions are there
    features_dtype: str = "float32"
    # Of a partition that failed.
    alone: bool = False  # it killed workers: nothing else is computed at the same time
    control: PartitionTask | None = None  # another one, which was computed before

    def lacking(self, rows: Sequence[Rows]) -> PartitionTask:
        """The same with the fingerprints of tables without these rows, which are not planned."""
        if not rows:
            return self
        features, predictions = (fingerprint(p, *rows) for p in (self.features, self.predictions))
        return replace(self, features=features, predictions=predictions)

    @property
    def name(self) -> str:
        """Tells tasks of one run apart; good for a file's name."""
        return f"part-{self.index:05d}"

    @property
    def features_path(self) -> Path:
        """Where the feature table goes."""
        return self.folder.features(self.index)

    @property
    def predictions_path(self) -> Path:
        """Where the prediction table goes."""
        return self.folder.predictions(self.index)

    @property
    def is_done(self) -> bool:
        """Whether all tables that this partition shall leave are there."""
        if self.rescore:
            return False
        return is_done(self.predictions_path, self.predictions) and (
            not self.keep_features or is_done(self.features_path, self.features)
        )


@checked
class _Planned:
    """What `Plan.as_json` makes."""

    decisions: Decisions
    counts: Counts
    partitions: tuple[PlannedPartition, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything `execute` and `finish` need to know."""

    folder: RunFolder
    decisions: Decisions
    counts: Counts
    partitions: tuple[PlannedPartition, ...]
    keep_features: bool = True
    rescore: bool = False

    @property
    def records_fingerprint(self) -> str:
        """Fingerprint of the record table."""
        return self.decisions.records_fingerprint

    def tasks(self) -> Iterator[PartitionTask]:
        """One task per partition, in order."""
        return map(self.task, self.partitions)

    def task(self, part: PlannedPartition) -> PartitionTask:
        """The task that turns a partition into its tables."""
        made = self.decisions
        by = (made.encoders_checksum, made.precision, made.features_dtype)
        genes = (made.gene_caller,) if made.reads_genes else ()
        features = fingerprint(part.content, *by, *genes)
        return PartitionTask(
            folder=RunFolder(self.folder.path.absolute()),  # a worker can be in another one
            index=part.index,
            chunks=part.chunks,
            content=part.content,
            features=features,
            predictions=fingerprint(features, made.modelset_checksum),
            keep_features=self.keep_features,
            rescore=self.rescore,
            features_dtype=made.features_dtype,
        )

    def as_json(self) -> dict[str, Any]:
        """The part of ``run.json`` that `read_plan` reads."""
        return {
            "decisions": {k: v for k, v in asdict(self.decisions).items() if v is not None},
            "counts": asdict(self.counts),
            "partitions": [asdict(part) for part in self.partitions],
        }


def read_plan(folder: RunFolder) -> Plan | None:
    """The plan of an earlier run in ``folder``; None if there is none, or no readable one."""
    try:
        planned = build(_Planned, read_run_json(folder)["plan"], "plan")
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Plan(folder, planned.decisions, planned.counts, planned.partitions)


def read_run_json(folder: RunFolder) -> dict[str, Any]:
    """The content of ``run.json``."""
    content: dict[str, Any] = json.loads(folder.run_json.read_text(encoding="utf-8"))
    return content


def read_finished(folder: RunFolder) -> tuple[Plan, dict[str, Any]]:
    """Plan and ``run.json`` of a finished run; `BadTableError` if there is none."""
    plan = read_plan(folder)
    run = read_run_json(folder) if plan is not None else {}
    if plan is None or not run.get("summary"):
        raise BadTableError(
            f"{folder.path}: no finished run here; make one with `run`, or go on with "
            "`run --resume`."
        )
    return plan, run


def write_run_json(folder: RunFolder, content: Mapping[str, Any]) -> None:
    """Write ``run.json`` whole."""
    # Bit by bit: as one text the partitions of a large run take a kilobyte each.
    pieces = json.JSONEncoder(indent=2).iterencode(content)
    with written_whole(folder.run_json) as stream:
        stream.writelines(piece.encode() for piece in pieces)
        stream.write(b"\n")


def refuse_change(folder: RunFolder, planned: Decisions, now: Decisions) -> None:
    """`PlanChangedError`, naming what changed, if what was planned is not what is asked for now."""
    changed = [
        f"{DECISION_NAMES[f.name]} ({_short(getattr(planned, f.name))}, "
        f"now {_short(getattr(now, f.name))})"
        for f in fields(Decisions)
        if getattr(planned, f.name) != getattr(now, f.name)
        and not (f.name == "sources" and planned.sources is None)  # known since 0.2.0
    ]
    if changed:
        raise PlanChangedError(
            f"{folder.path} was planned with other {', '.join(changed)}. "
            "Resume with the old, choose another folder, or start anew with --force."
        )


def _short(value: object) -> str:
    return str(value)[:12]
