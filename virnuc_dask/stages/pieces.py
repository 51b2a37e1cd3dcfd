"""A partition in pieces: what is there of it, and its tables put together again.

A piece's tables lie in ``unfinished/`` until the whole partition is settled. Rows that failed are
missing from its tables, and their fingerprint says so: such a table is not the planned one, and
``--resume`` tries just the missing rows again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from virnuc_dask.tables.parquet import count_rows, read_fingerprint, read_table, write_table
from virnuc_dask.tables.plan import PartitionTask, Rows

_WITHOUT = " without rows "
_PIECE = re.compile(r"\.rows-(\d+)-(\d+)\.predictions\.parquet$")


def without(fingerprint: str, failed: Sequence[Rows]) -> str:
    """The fingerprint of a table in which the rows ``failed`` are missing."""
    if not failed:
        return fingerprint
    return fingerprint + _WITHOUT + ",".join(f"{first}-{end}" for first, end in joined(failed))


def joined(rows: Sequence[Rows]) -> list[Rows]:
    """Ranges in order, those that touch or overlap made one."""
    ranges: list[Rows] = []
    for first, end in sorted(rows):
        if ranges and first <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], max(end, ranges[-1][1]))
        else:
            ranges.append((first, end))
    return ranges


def failed_before(task: PartitionTask) -> list[Rows] | None:
    """Rows that an earlier run left out of this partition's tables; None if these are no use."""
    found = read_fingerprint(task.folder.predictions(task.index)) or ""
    planned, _, rows = found.partition(_WITHOUT)
    if planned != task.predictions or not rows:
        return None
    failed = [(int(first), int(end)) for first, end in re.findall(r"(\d+)-(\d+)", rows)]
    if task.keep_features and read_fingerprint(task.folder.features(task.index)) != without(
        task.features, failed
    ):
        return None
    return failed


def pieces_to_do(task: PartitionTask) -> list[PartitionTask]:
    """The pieces that are left of a partition in which something failed; none of a fresh one.

    Pieces whose tables are there already are among them: computing them takes no time.
    """
    failed = failed_before(task)
    wanted = [task.rows] if failed is None else failed
    there = list(_disjoint(_piece_rows(task)))
    if failed is None and not there:
        return []
    there = [rows for rows in there if any(_inside(rows, all_of) for all_of in wanted)]
    return [task.piece(rows) for rows in sorted([*there, *_gaps(wanted, there)])]


def assemble(task: PartitionTask, pieces: Sequence[PartitionTask], failed: Sequence[Rows]) -> int:
    """Write a partition's tables from those of its pieces; returns their frames.

    Parameters
    ----------
    pieces
        Those that are done.
    failed
        The rows that are not, and stay missing.
    """
    before = failed_before(task)
    if task.keep_features:
        _assemble(
            task.features_path,
            [(piece.features_path, piece.features) for piece in pieces],
            (task.features, before, failed),
        )
    _assemble(
        task.predictions_path,
        [(piece.predictions_path, piece.predictions) for piece in pieces],
        (task.predictions, before, failed),
    )
    return count_rows(task.predictions_path)


def forget_pieces(task: PartitionTask) -> None:
    """Remove what the pieces of a partition left in ``unfinished/``."""
    for path in task.folder.unfinished.glob(f"{task.name}.*"):
        path.unlink(missing_ok=True)


def _assemble(
    path: Path,
    sources: list[tuple[Path, str]],
    whole: tuple[str, list[Rows] | None, Sequence[Rows]],
) -> None:
    fingerprint, before, failed = whole
    if before is not None:
        sources = [(path, without(fingerprint, before)), *sources]
    table = pa.concat_tables([read_table(*source) for source in sources])
    # A chunk's frames come from one source, in their order; chunks in that of the partition.
    order = np.argsort(table["chunk_row"].to_numpy(), kind="stable")
    write_table(path, table.take(pa.array(order)), without(fingerprint, failed))


def _piece_rows(task: PartitionTask) -> Iterator[Rows]:
    for path in task.folder.unfinished.glob(f"{task.name}.rows-*.predictions.parquet"):
        if match := _PIECE.search(path.name):
            yield int(match[1]), int(match[2])


def _disjoint(rows: Iterator[Rows]) -> Iterator[Rows]:
    """The larger one of ranges that overlap: pieces are halves of halves."""
    end = 0
    for first, last in sorted(rows, key=lambda r: (r[0], -r[1])):
        if first >= end:
            end = last
            yield first, last


def _inside(rows: Rows, all_of: Rows) -> bool:
    return all_of[0] <= rows[0] and rows[1] <= all_of[1]


def _gaps(wanted: Sequence[Rows], there: Sequence[Rows]) -> Iterator[Rows]:
    """What of ``wanted`` is not in ``there``, whose ranges are in order and inside it."""
    for first, end in wanted:
        for begin, stop in (rows for rows in there if _inside(rows, (first, end))):
            if first < begin:
                yield first, begin
            first = stop
        if first < end:
            yield first, end
