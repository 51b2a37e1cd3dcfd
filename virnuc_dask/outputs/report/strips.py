"""Where along a record its viral genes, or chunks, lie."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import local

_VIRAL = 0.5
_MOST = 200  # parts that are drawn of a record


@dataclass
class Strip:
    """The scored parts of a record: start and end in nt, and how viral, from 0 to 1.

    ``regions`` has the start and the end of each viral region.
    """

    length_nt: int
    parts: list[tuple[int, int, float]] = field(default_factory=list)
    regions: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def drawn(self) -> list[tuple[int, int, float]]:
        """The parts; where there are many, the means of some that follow one another."""
        size = max(1, -(-len(self.parts) // _MOST))
        pools = (self.parts[n : n + size] for n in range(0, len(self.parts), size))
        return [
            (pool[0][0], max(end for _, end, _ in pool), sum(s for *_, s in pool) / len(pool))
            for pool in pools
        ]

    def add(self, start: int, end: int, score: float | None, region: int | None) -> None:
        """Take in a gene or a chunk, in the order of their places."""
        if score is not None:
            self.parts.append((start, end, score))
        if region is not None:
            first, last = self.regions.get(region, (start, end))
            self.regions[region] = first, max(last, end)

    def __str__(self) -> str:
        if not self.parts:
            return "nothing to show"
        viral = sum(score >= _VIRAL for *_, score in self.parts)
        return f"{viral} of {len(self.parts)} viral"


def strips(folder: RunFolder, lengths_nt: dict[int, int], *, reads_genes: bool) -> dict[int, Strip]:
    """Strips of the records with these indices and lengths."""
    found = {index: Strip(length) for index, length in lengths_nt.items()}
    name = "genes.parquet" if reads_genes else "chunks.parquet"
    # Chunks have no region.
    columns = ["record_index", "start", "end", "score_virus", "score_others", "region"]
    with pq.ParquetFile(local(folder.output(name))) as file:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns)
            is_shown = np.isin(table["record_index"].to_numpy(), list(found))
            rows = table.filter(pa.array(is_shown)).to_pylist()
            for row in rows:
                virus, others = row["score_virus"], row["score_others"]
                score = None if virus is None else (1 + virus - others) / 2  # as records have it
                found[row["record_index"]].add(row["start"], row["end"], score, row.get("region"))
    return found
