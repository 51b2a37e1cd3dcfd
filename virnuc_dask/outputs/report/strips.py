"""Where along a record its viral genes, or chunks, and its viral regions lie."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.stages.regions import chunk_regions
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import read_pieces

_VIRAL = 0.5
_MOST = 200  # parts that are drawn of a record
_OF_GENES = ("record_index", "start", "end", "score_virus", "score_others", "region")


@dataclass
class Strip:
    """The scored parts of a record: start and end in nt, and how viral, from 0 to 1.

    ``regions`` has the start and the end of each viral region.
    """

    length_nt: int
    parts: list[tuple[int, int, float]] = field(default_factory=list)
    regions: list[tuple[int, int]] = field(default_factory=list)

    @property
    def drawn(self) -> list[tuple[int, int, float]]:
        """The parts; where there are many, the means of some that follow one another."""
        size = max(1, -(-len(self.parts) // _MOST))
        pools = (self.parts[n : n + size] for n in range(0, len(self.parts), size))
        return [
            (pool[0][0], max(end for _, end, _ in pool), sum(s for *_, s in pool) / len(pool))
            for pool in pools
        ]

    def __str__(self) -> str:
        if not self.parts:
            return "nothing to show"
        viral = sum(score >= _VIRAL for *_, score in self.parts)
        return f"{viral} of {len(self.parts)} viral"


def strips(
    folder: RunFolder,
    lengths_nt: dict[int, int],
    calibration: Calibration | None,
    *,
    reads_genes: bool,
) -> dict[int, Strip]:
    """Strips of the records with these indices and lengths."""
    name, columns = "chunks.parquet", schemas.CHUNKS.names
    if reads_genes:
        name, columns = "genes.parquet", _OF_GENES
    pieces = read_pieces(folder.output(name), None, columns)
    shown = list(lengths_nt)
    kept = [piece.filter(np.isin(piece["record_index"].to_numpy(), shown)) for piece in pieces]
    found = {index: Strip(length) for index, length in lengths_nt.items()}
    if not kept:
        return found
    rows = pa.concat_tables(kept)
    for row in rows.filter(rows["score_virus"].is_valid()).to_pylist():
        score = (1 + row["score_virus"] - row["score_others"]) / 2  # as records have it
        found[row["record_index"]].parts.append((row["start"], row["end"], score))
    regions = _of_genes(rows) if reads_genes else chunk_regions(rows, calibration)
    for region in regions.select(["record_index", "start", "end"]).to_pylist():
        found[region["record_index"]].regions.append((region["start"], region["end"]))
    return found


def _of_genes(genes: pa.Table) -> pa.Table:
    inside = genes.filter(genes["region"].is_valid())
    regions = inside.group_by(["record_index", "region"], use_threads=False)
    found = regions.aggregate([("start", "min"), ("end", "max")])
    return found.rename_columns({"start_min": "start", "end_max": "end"})
