"""``contigs.tsv`` of a finished run, read some records at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv

from virnuc_dask.errors import BadTableError
from virnuc_dask.tables.parquet import ROWS, local
from virnuc_dask.tables.schemas import CONTIGS, CONTIGS_OF_GENES

_TYPES = {field.name: field.type for columns in (CONTIGS, CONTIGS_OF_GENES) for field in columns}
_BLOCK = 1 << 24  # bytes read at a time; more than a line has


def read_contig_table(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Rows of a ``contigs.tsv``, these columns, ``call`` among them.

    Numbers that are not there are null, and columns that it has not: of the other reading, or of a
    later version. `BadTableError` if the file is missing or damaged.
    """
    try:
        with csv.open_csv(
            local(path),
            read_options=csv.ReadOptions(block_size=_BLOCK),
            parse_options=csv.ParseOptions(delimiter="\t", newlines_in_values=True),
            convert_options=csv.ConvertOptions(
                column_types=_TYPES,
                null_values=[""],
                include_columns=columns,
                include_missing_columns=True,
            ),
        ) as reader:
            for batch in reader:
                if batch["call"].null_count:
                    raise BadTableError(f"{path}: cannot be read (a record has no call).")
                for first in range(0, len(batch), ROWS):
                    yield pa.Table.from_batches([batch.slice(first, ROWS)])
    except (OSError, pa.ArrowException) as error:
        raise BadTableError(f"{path}: cannot be read ({error}).") from error
