import numpy as np
import pandas as pd
import pyarrow as pa

from virnuc_dask.outputs.published import BY_ID, by_id, chunk_lines, frame_lines
from virnuc_dask.tables import schemas
from virnuc_dask.tables.on_disk import SortedRows


def prediction_table(scores: list[tuple[float, float]]) -> pa.Table:
    given = {
        "frame_id": [f"r_chunk_{row}F1" for row in range(len(scores))],
        **dict.fromkeys(("chunk_id", "record_id"), ["r"] * len(scores)),
        "label": ["virus" if virus > others else "others" for others, virus in scores],
        "score_others": [others for others, _ in scores],
        "score_virus": [virus for _, virus in scores],
    }
    return schemas.filled(schemas.PREDICTIONS, given, len(scores))


def call_table(calls: list[tuple[str, str | None]]) -> pa.Table:
    ids, called = zip(*calls, strict=True) if calls else ((), ())
    return pa.table({"chunk_id": pa.array(ids, pa.string()), "call": pa.array(called, pa.string())})


def joined_chunk_lines(calls: pa.Table) -> str:
    rows = SortedRows(BY_ID)
    rows.add(by_id(calls, BY_ID))
    return "".join(map(chunk_lines, rows.merged()))


def test_a_frame_is_a_line_of_id_label_and_both_scores_in_frame_order():
    lines = frame_lines(prediction_table([(0.75, 0.25), (0.25, 0.75)]))
    assert lines == "r_chunk_0F1\tothers\t0.75\t0.25\nr_chunk_1F1\tvirus\t0.25\t0.75\n"


def test_scores_are_written_as_the_published_tools_pandas_writes_them():
    scores = np.array([0.1, 1e-4, 1e-5, 0.00012, 1 / 3, 1, 0, 1 - 2**-24, 3e-30], np.float32)
    texts = ["0.1", "1e-04", "1e-05", "0.00012", "0.33333334", "1.0", "0.0", "0.99999994", "3e-30"]
    expected = pd.DataFrame({"score": scores}).to_csv(header=False, index=False).split()
    lines = frame_lines(prediction_table([(score, 0.5) for score in scores.tolist()]))
    assert [line.split("\t")[2] for line in lines.splitlines()] == expected == texts


def test_a_chunk_is_true_where_it_is_virus_and_left_out_without_a_call():
    calls = [("c", "virus"), ("b", None), ("a", "others")]
    assert joined_chunk_lines(call_table(calls)) == "a\tFalse\nc\tTrue\n"
