import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from virnuc_dask.tables import schemas
from virnuc_dask.tables.parquet import read_table, write_table
from virnuc_dask.tables.vectors import from_column, to_column

EMBEDDINGS = np.random.default_rng(3).normal(size=(50, 6)).astype(np.float32)


def stored(tmp_path, dtype: str) -> pa.Table:
    schema = pa.schema([("v", pa.list_(schemas.DTYPES[dtype], 6))])
    write_table(tmp_path / "t.parquet", pa.table([to_column(EMBEDDINGS, dtype)], schema), "mine")
    return read_table(tmp_path / "t.parquet", "mine")


def test_single_precision_comes_back_bit_by_bit(tmp_path):
    assert from_column(stored(tmp_path, "float32"), "v").tobytes() == EMBEDDINGS.tobytes()


def test_half_precision_comes_back_rounded_as_single(tmp_path):
    back = from_column(stored(tmp_path, "float16"), "v")
    assert back.dtype == np.float32
    assert back.tobytes() == EMBEDDINGS.astype(np.float16).astype(np.float32).tobytes()
    assert back.tobytes() != EMBEDDINGS.tobytes()


@pytest.mark.parametrize("dtype", schemas.DTYPES)
def test_every_reader_can_read_the_encoding(tmp_path, dtype):
    stored(tmp_path, dtype)
    column = pq.read_metadata(tmp_path / "t.parquet").row_group(0).column(0)
    assert set(column.encodings) <= {"PLAIN", "RLE"}


def test_what_half_precision_cannot_hold_is_not_finite_and_no_warning():
    column = to_column(np.full((1, 2), 1e6, np.float32), "float16")
    assert not np.isfinite(column.flatten().to_numpy()).any()


def test_no_rows_are_no_rows(tmp_path):
    table = pa.table({"v": to_column(EMBEDDINGS[:0], "float16")})
    assert from_column(table, "v").shape == (0, 6)
