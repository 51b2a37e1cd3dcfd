"""``contigs.tsv`` and ``virus.fasta``: a line a record, and the DNA of those called virus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.errors import LostRowsError
from virnuc_dask.modelsets.manifest import FRAMES, GENES
from virnuc_dask.outputs.fields import fields
from virnuc_dask.stages.calls import ContigCalls

CONTIGS_HEADER = "record_id\tlength_nt\tchunks\tchunks_scored\tscore\tprobability\tq_value\tcall\n"
_BASIS = "\treading\tgenes\tviral_genes\tcoding_density\ttopology\treliability\n"
_LINE = 80


def contigs_header(calls: ContigCalls) -> str:
    """The first line of ``contigs.tsv``."""
    return CONTIGS_HEADER.replace("\n", _BASIS) if calls.basis else CONTIGS_HEADER


def contig_lines(records: pa.Table, calls: ContigCalls) -> str:
    """Lines of ``contigs.tsv``, a record each, in input order.

    ``probability`` is that of a virus were viruses and others equally frequent: it does not depend
    on the other records. ``q_value`` does: it is the expected share of others among the records
    that are no less viral, at the estimated prevalence. Both are empty for a model set without a
    calibration; they and ``score`` are empty where no chunk was scored. Of a model set that reads
    genes, ``score`` is the probability where there is one, and what a call rests on follows it.

    Parameters
    ----------
    records
        Rows of `schemas.RECORDS`, or of `schemas.RECORDS_WITH_ENDS` for genes.
    calls
        Of these records.
    """
    rows = zip(
        fields(records["record_id"].to_pylist()),
        map(str, records["length_nt"].to_pylist()),
        map(str, records["chunks"].to_pylist()),
        map(str, calls.chunks_scored.tolist()),
        map(_number, calls.score.tolist()),
        map(_number, calls.probability.tolist()),
        map(_number, calls.q_value.tolist()),
        calls.call.tolist(),
        *_basis(records, calls),
        strict=True,
    )
    return "".join(["\t".join(row) + "\n" for row in rows])


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


def _basis(records: pa.Table, calls: ContigCalls) -> list[Iterable[str]]:
    """Columns of what the calls of ``records`` rest on; none for a set that reads frames."""
    if calls.basis is None:
        return []
    genes = calls.basis.genes
    readings = np.where(genes > 0, GENES, np.where(calls.chunks_scored > 0, FRAMES, ""))
    return [
        readings.tolist(),
        map(str, genes.tolist()),
        map(str, calls.basis.viral_genes.tolist()),
        map(_number, calls.basis.coding_density.tolist()),
        (ends or "" for ends in records["topology"].to_pylist()),
        map(_number, calls.basis.reliability.tolist()),
    ]


def _number(value: float) -> str:
    return f"{value:.6f}" if value == value else ""  # not a number is nothing


def write_fasta(
    stream: IO[bytes], partitions: Iterator[pa.Table], wanted: NDArray[np.bool_]
) -> int:
    """Write the records that ``wanted`` picks by index; returns how many.

    The records are put together from their chunks, so that standard input serves as well.

    Parameters
    ----------
    partitions
        All partitions in order, with sequences: a record's chunks may cross from one to the next.
    """
    rows = (row for table in partitions for row in _rows(table, wanted))
    written = 0
    for (_, record_id), chunks in groupby(rows, key=lambda row: row[:2]):
        dna = _join((start, end, sequence) for *_, start, end, sequence in chunks)
        lines = (dna[at : at + _LINE] for at in range(0, len(dna), _LINE))
        stream.write("\n".join([f">{record_id}", *lines, ""]).encode())
        written += 1
    return written


def _join(chunks: Iterable[tuple[int, int, str]]) -> str:
    """The DNA that overlapping chunks (start, end, sequence) were cut from."""
    pieces, covered = [], 0
    for start, end, sequence in chunks:
        pieces.append(sequence[covered - start :])
        covered = end
    return "".join(pieces)


def _rows(table: pa.Table, wanted: NDArray[np.bool_]) -> Iterator[tuple[int, str, int, int, str]]:
    picked = table.filter(pa.array(wanted[table["record_index"].to_numpy()]))
    names = ("record_index", "record_id", "start", "end", "sequence")
    return zip(*(picked[name].to_pylist() for name in names), strict=True)
