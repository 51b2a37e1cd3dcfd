"""Where along a record its viral genes, or chunks, lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.dataset as ds

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


def strips(folder: Path, lengths_nt: dict[int, int], *, reads_genes: bool) -> dict[int, Strip]:
    """Strips of the records with these indices and lengths."""
    found = {index: Strip(length) for index, length in lengths_nt.items()}
    name, score = (
        ("genes.parquet", "viral_probability") if reads_genes else ("chunks.parquet", "score_virus")
    )
    columns = ["record_index", "start", "end", score]
    table = ds.dataset(local(folder / name)).to_table(
        columns, filter=ds.field("record_index").isin(list(found))
    )
    rows: Sequence[Sequence[float]] = [table[column].to_pylist() for column in columns]
    for index, start, end, chance in zip(*rows, strict=True):
        if chance is not None:
            found[int(index)].parts.append((int(start), int(end), chance))
    return found
