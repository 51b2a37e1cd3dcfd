"""``contigs.tsv`` of a finished run, read some records at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv

from virnuc_dask.errors import BadTableError
from virnuc_dask.tables.parquet import local
from virnuc_dask.tables.schemas import CONTIGS, CONTIGS_OF_GENES

_TYPES = {"sample": pa.string()} | {
    field.name: field.type for columns in (CONTIGS, CONTIGS_OF_GENES) for field in columns
}
_BLOCK = 1 << 24  # bytes read at a time; more than a line has


def read_contig_table(path: Path, columns: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    """Rows of a ``contigs.tsv``, of all or of these columns; numbers that are not there are null.

    Raises
    ------
    BadTableError
        If the file is missing or damaged.
    """
    try:
        with csv.open_csv(
            local(path),
            read_options=csv.ReadOptions(block_size=_BLOCK),
            parse_options=csv.ParseOptions(delimiter="\t", newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=_TYPES, null_values=[""], include_columns=columns
            ),
        ) as reader:
            yield from reader
    except (OSError, pa.ArrowException) as error:
        raise BadTableError(f"{path}: cannot be read ({error}).") from error
