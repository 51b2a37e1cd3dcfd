"""Where along a record its viral genes, or chunks, lie."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import local

_VIRAL = 0.5


@dataclass
class Strip:
    """The scored parts of a record: start and end in nt, and how viral, from 0 to 1."""

    length_nt: int
    parts: list[tuple[int, int, float]] = field(default_factory=list)

    def __str__(self) -> str:
        viral = sum(score >= _VIRAL for *_, score in self.parts)
        return f"{viral} of {len(self.parts)} viral"


def strips(folder: RunFolder, lengths_nt: dict[int, int], *, reads_genes: bool) -> dict[int, Strip]:
    """Strips of the records with these indices and lengths."""
    found = {index: Strip(length) for index, length in lengths_nt.items()}
    name, score = (
        ("genes.parquet", "viral_probability") if reads_genes else ("chunks.parquet", "score_virus")
    )
    columns = ["record_index", "start", "end", score]
    with pq.ParquetFile(local(folder.output(name))) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns)
            is_shown = np.isin(table["record_index"].to_numpy(), list(found))
            rows = table.filter(pa.array(is_shown)).drop_null()
            for index, *part in zip(*(column.to_pylist() for column in rows), strict=True):
                found[index].parts.append(tuple(part))
    return found
