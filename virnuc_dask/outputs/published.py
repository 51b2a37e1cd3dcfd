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
# What ``prediction_results_highestscore.csv`` has of a chunk with a frame; it is sorted by id, and
# chunks of records that share an id keep the order of their records.
BY_ID = pa.schema([("Modified_ID", pa.string()), ("Is_Virus", pa.bool_())])
# With the scores of others and of virus, as the tool's later version for GPUs writes them.
BY_ID_WITH_SCORES = pa.schema(
    [*BY_ID, ("max_score_0", pa.float32()), ("max_score_1", pa.float32())]
)

_COLUMNS = {"Modified_ID": "chunk_id", "max_score_0": "score_others", "max_score_1": "score_virus"}


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


def by_id(calls: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of `BY_ID`, or of `BY_ID_WITH_SCORES`; those of chunks without a call are left out.

    Parameters
    ----------
    calls
        Rows of `schemas.CHUNKS`.
    """
    scored = calls.filter(calls["call"].is_valid())
    columns = (
        pc.equal(scored["call"], VIRUS) if name == "Is_Virus" else scored[_COLUMNS[name]]
        for name in schema.names
    )
    return pa.table(list(columns), schema=schema)


def chunk_lines(chunks: pa.Table) -> str:
    """Lines of ``prediction_results_highestscore.csv``, of rows that `by_id` made."""
    ids, *columns = chunks.columns
    texts = (map(str, column.to_numpy(zero_copy_only=False)) for column in columns)
    rows = zip(fields(ids.to_pylist()), *texts, strict=True)
    return "".join(["\t".join(row) + "\n" for row in rows])
