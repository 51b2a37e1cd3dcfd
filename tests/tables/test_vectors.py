import numpy as np
import pyarrow as pa
import pytest

from virnuc_dask.tables import schemas
from virnuc_dask.tables.parquet import read_table, write_table
from virnuc_dask.tables.vectors import from_column, to_column

EMBEDDINGS = np.random.default_rng(3).normal(size=(50, 6)).astype(np.float32)


def stored(tmp_path, dtype: str) -> pa.Table:
    schema = pa.schema([("v", pa.list_(schemas.DTYPES[dtype], 6))])
    write_table(tmp_path / "t.parquet", pa.table([to_column(EMBEDDINGS, dtype)], schema), "mine")
    return read_table(tmp_path / "t.parquet", "mine")


@pytest.mark.parametrize("dtype", schemas.DTYPES)
def test_vectors_come_back_as_single_precision_rounded_as_stored(tmp_path, dtype):
    back = from_column(stored(tmp_path, dtype), "v")
    assert back.dtype == np.float32
    assert back.tobytes() == EMBEDDINGS.astype(dtype).astype(np.float32).tobytes()


def test_what_half_precision_cannot_hold_is_not_finite_and_no_warning():
    column = to_column(np.full((1, 2), 1e6, np.float32), "float16")
    assert not np.isfinite(column.flatten().to_numpy()).any()
