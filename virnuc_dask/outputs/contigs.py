"""``contigs.tsv`` and ``contigs.parquet``: a row a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from virnuc_dask.errors import LostRowsError
from virnuc_dask.modelsets.manifest import FRAMES, GENES
from virnuc_dask.stages.calls import VIRUS, VIRUS_REGION, ContigCalls
from virnuc_dask.tables import schemas
from virnuc_dask.tables.parquet import read_pieces
from virnuc_dask.tables.plan import Plan

SHOWN = 5  # records in a summary

_OF_CALLS = (
    *("chunks_scored", "score", "probability", "q_value"),
    *("call", "chunks_virus", "virus_fraction"),
)


def read_records(plan: Plan, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Rows of `schemas.RECORDS`, many at a time; `BadTableError` if the table is damaged."""
    return read_pieces(plan.folder.records, plan.records_fingerprint, columns)


def contigs_schema(calls: ContigCalls) -> pa.Schema:
    """The columns of contigs that are called so."""
    return schemas.CONTIGS_OF_GENES if calls.basis else schemas.CONTIGS


def contig_table(records: pa.Table, calls: ContigCalls) -> pa.Table:
    """Rows of `contigs_schema`, a record each, in input order.

    ``probability`` is that of a virus were viruses and others equally frequent: it does not depend
    on the other records. ``q_value`` does: it is the expected share of others among the records
    that are no less viral, at the estimated prevalence. Both are null for a model set without a
    calibration; they and ``score`` are null where no chunk was scored. Of a model set that reads
    genes, ``score`` is the probability where there is one, and what a call rests on follows it.

    Parameters
    ----------
    records
        Rows of `schemas.RECORDS`, or of `schemas.RECORDS_WITH_ENDS` for genes; ``gc`` is null
        where an older version planned the run.
    calls
        Of these records.
    """
    schema = contigs_schema(calls)
    columns: dict[str, Any] = {f.name: pa.nulls(len(records), f.type) for f in schema}
    columns |= {name: records[name].combine_chunks() for name in records.column_names}
    columns |= {name: getattr(calls, name) for name in _OF_CALLS} | _basis(calls)
    # What is not a number is null.
    arrays = [pa.array(columns[f.name], f.type, from_pandas=True) for f in schema]
    return pa.table(arrays, schema=schema)


def _basis(calls: ContigCalls) -> dict[str, Any]:
    """Columns of what calls rest on; none for a set that reads frames."""
    if calls.basis is None:
        return {}
    by_frames = np.where(calls.chunks_scored > 0, FRAMES, "")
    of = {name: getattr(calls.basis, name) for name in calls.basis.__slots__}
    return of | {"reading": np.where(calls.basis.genes > 0, GENES, by_frames)}


def side_by_side(
    records: Iterable[pa.Table], calls: Iterable[ContigCalls]
) -> Iterator[tuple[pa.Table, ContigCalls]]:
    """Rows of records with their calls, wherever the pieces of both end.

    Raises
    ------
    LostRowsError
        If there are not as many records as calls.
    """
    tables, called = filter(len, records), filter(len, calls)
    table, call, done = next(tables, None), next(called, None), 0
    while table is not None and call is not None:
        rows = min(len(table), len(call))
        yield table.slice(0, rows), call.take(slice(rows))
        done += rows
        table = table.slice(rows) if rows < len(table) else next(tables, None)
        call = call.take(slice(rows, None)) if rows < len(call) else next(called, None)
    if table is not None or call is not None:
        read, out = (
            done + sum(map(len, [p or (), *more])) for p, more in ((call, called), (table, tables))
        )
        raise LostRowsError(f"{read} records were read, {out} came out.")


class Listed(NamedTuple):
    """Records to show, and how many shorter ones were left out."""

    records: Sequence[Mapping[str, Any]]  # as in `run.json`
    shorter: int = 0
    shorter_viral: int = 0  # of them those called virus, or virus_region


def most_viral(path: Path, top: int | None, least_nt: int) -> Listed:
    """The ``top`` records of a ``contigs.parquet`` of at least ``least_nt``, the most viral first.

    By probability, or by score where there is none; among equals the earlier. `BadTableError` if
    the table is missing or damaged.
    """
    names = ["record_id", "score", "probability", "call", "length_nt"]
    kept, shorter, shorter_viral = None, 0, 0
    for piece in read_pieces(path, None, names):
        is_short = piece["length_nt"].to_numpy() < least_nt
        is_viral = pc.is_in(piece["call"], pa.array([VIRUS, VIRUS_REGION])).to_numpy()
        shorter += int(is_short.sum())
        shorter_viral += int((is_short & is_viral).sum())
        piece = piece.filter(~is_short)
        both = piece if kept is None else pa.concat_tables([kept, piece])
        kept = both.take(_order(both)[: SHOWN if top is None else top])
    records = [] if kept is None else kept.drop_columns("length_nt").to_pylist()
    return Listed(records, shorter, shorter_viral)


def _order(contigs: pa.Table) -> NDArray[np.int64]:
    """Rows with a score, the most viral first."""
    score = contigs["score"].to_numpy()
    judged = pc.coalesce(contigs["probability"], contigs["score"]).to_numpy()
    order = np.lexsort((-score, -judged))
    return order[: int(np.count_nonzero(~np.isnan(score)))]
