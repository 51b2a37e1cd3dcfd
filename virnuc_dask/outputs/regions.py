"""``virus_regions.tsv``: a line a region, the stretches of records that are viral."""

from __future__ import annotations

import pyarrow as pa

from virnuc_dask.outputs.fields import fields

REGIONS_HEADER = "record_id\tregion\tstart\tend\tgenes\tscore\n"


def region_lines(regions: pa.Table) -> str:
    """Lines of ``virus_regions.tsv``, for rows of `schemas.REGIONS`.

    ``start`` and ``end`` are 0-based and half-open, as in BED; ``score`` is the mean probability of
    the region's genes to be viral.
    """
    rows = zip(
        fields(regions["record_id"].to_pylist()),
        *(map(str, regions[name].to_pylist()) for name in ("region", "start", "end", "genes")),
        (f"{score:.6f}" for score in regions["score"].to_pylist()),
        strict=True,
    )
    return "".join(["\t".join(row) + "\n" for row in rows])
