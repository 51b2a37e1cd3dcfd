"""The published tool's two result files, the same in shape and order.

Ids with a quote are quoted (`fields`), which the published tool left out.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from virnuc_dask.outputs.fields import fields
from virnuc_dask.stages.calls import VIRUS

FRAMES_HEADER = "Sequence_ID\tPrediction\tscore1\tscore2\n"
CHUNKS_HEADER = "Modified_ID\tIs_Virus\n"
# What ``prediction_results_highestscore.csv`` has of a chunk with a frame; it is sorted by id, and
# chunks of records that share an id keep the order of their records.
BY_ID = pa.schema([("chunk_id", pa.string()), ("is_virus", pa.bool_())])


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


def by_id(calls: pa.Table) -> pa.Table:
    """Rows of `BY_ID`, those of chunks without a call left out.

    Parameters
    ----------
    calls
        Rows of `schemas.CHUNKS`.
    """
    scored = calls.filter(calls["call"].is_valid())
    return pa.table([scored["chunk_id"], pc.equal(scored["call"], VIRUS)], schema=BY_ID)


def chunk_lines(chunks: pa.Table) -> str:
    """Lines of ``prediction_results_highestscore.csv``, of rows of `BY_ID`."""
    ids, is_virus = fields(chunks["chunk_id"].to_pylist()), chunks["is_virus"].to_pylist()
    return "".join([f"{i}\t{v}\n" for i, v in zip(ids, is_virus, strict=True)])
