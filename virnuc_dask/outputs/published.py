"""The published tool's two result files, the same in shape and order.

Ids with a quote are quoted (`fields`), which the published tool left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from virnuc_dask.outputs.fields import fields
from virnuc_dask.stages.calls import VIRUS
from virnuc_dask.tables.parquet import ROWS

FRAMES_HEADER = "Sequence_ID\tPrediction\tscore1\tscore2\n"
CHUNKS_HEADER = "Modified_ID\tIs_Virus\n"


def frame_lines(predictions: pa.Table) -> str:
    """Lines of ``prediction_results.txt``: a frame each, in frame order.

    score1 is that of others, score2 that of virus, each the shortest text that is the same float32.
    """
    columns = (
        fields(predictions["frame_id"].to_pylist()),
        predictions["label"].to_pylist(),
        predictions["score_others"].to_numpy().astype(np.float32).astype(str).tolist(),
        predictions["score_virus"].to_numpy().astype(np.float32).astype(str).tolist(),
    )
    return "".join(f"{i}\t{label}\t{s1}\t{s2}\n" for i, label, s1, s2 in zip(*columns, strict=True))


def chunk_lines(calls: pa.Table) -> Iterator[str]:
    """Lines of ``prediction_results_highestscore.csv``: the chunks with a frame, sorted by id.

    Chunks of records that share an id keep the order of their records. ``calls`` are the columns
    ``chunk_id`` and ``call`` of all chunks; many lines are yielded at a time.
    """
    scored = calls.filter(calls["call"].is_valid())
    # Large: together the ids of a big input have more than 2 GB.
    ids = scored["chunk_id"].cast(pa.large_string()).combine_chunks()
    is_virus = pc.equal(scored["call"], VIRUS).combine_chunks()
    order = pc.sort_indices(ids)
    for start in range(0, len(order), ROWS):
        rows = order.slice(start, ROWS)
        lines = zip(
            fields(ids.take(rows).to_pylist()), is_virus.take(rows).to_pylist(), strict=True
        )
        yield "".join(f"{i}\t{v}\n" for i, v in lines)
