import errno
import gc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from virnuc_dask.errors import CannotWriteError, LostRowsError
from virnuc_dask.tables import on_disk
from virnuc_dask.tables.on_disk import RecordRows, SortedRows

IDS = pa.schema([("id", pa.string()), ("place", pa.int64())])
PAIR = np.dtype([("count", np.int64), ("sum", np.float64)])


@pytest.fixture(autouse=True)
def _small_runs(monkeypatch):
    """Runs of a few rows, and pieces of one or two."""
    monkeypatch.setattr(on_disk, "RUN_BYTES", 300)
    monkeypatch.setattr(on_disk, "PIECES", 8)


def sorted_by_hand(ids: list[str]) -> list[tuple[str, int]]:
    return sorted(zip(ids, range(len(ids)), strict=True), key=lambda row: row[0].encode())


def sorted_on_disk(ids: list[str], rows_a_piece: int, folder=None) -> list[tuple[str, int]]:
    rows = SortedRows(IDS, folder)
    table = pa.table([pa.array(ids, pa.string()), np.arange(len(ids))], schema=IDS)
    for start in range(0, len(ids), rows_a_piece):
        rows.add(table.slice(start, rows_a_piece))
    merged = [row for piece in rows.merged() for row in piece.to_pylist()]
    return [(row["id"], row["place"]) for row in merged]


@given(st.lists(st.text(alphabet="ab_1é𐍈￿", max_size=3), max_size=200), st.integers(1, 50))
def test_rows_come_out_as_a_stable_sort_by_bytes_gives_them(ids, rows_a_piece):
    assert sorted_on_disk(ids, rows_a_piece) == sorted_by_hand(ids)


def test_no_more_than_a_piece_of_each_run_is_read_at_a_time(monkeypatch):
    ids = [str(n * 7919 % 1000) for n in range(1000)]
    read: list[int] = []
    inner = on_disk._File.read
    monkeypatch.setattr(
        on_disk._File, "read", lambda file, *place: read.append(place[1]) or inner(file, *place)
    )
    rows = SortedRows(IDS)
    for start in range(0, 1000, 5):
        rows.add(pa.table([ids[start : start + 5], range(start, start + 5)], schema=IDS))
    next(rows.merged())
    runs = len(rows._runs)
    assert runs > 20
    assert len(read) <= runs + 1
    assert max(read) < on_disk.RUN_BYTES + 500  # with the header of its message


def test_nothing_is_left_in_the_folder_meanwhile_or_afterwards(tmp_path):
    rows = SortedRows(IDS, tmp_path)
    rows.add(pa.table([["b"] * 100, range(100)], schema=IDS))
    merged = rows.merged()
    next(merged)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_closed_with_its_last_user():
    rows = SortedRows(IDS)
    file = rows._file._file
    assert not file.closed
    del rows
    gc.collect()
    assert file.closed


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    rows = SortedRows(IDS, tmp_path)

    class Full:
        def seek(self, place):
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(rows._file, "_file", Full())
    with pytest.raises(CannotWriteError, match=f"{tmp_path}: No space left.*--resume"):
        rows.add(pa.table([["b"] * 100, range(100)], schema=IDS))


def blank(*sizes: int) -> RecordRows:
    return RecordRows((np.zeros(size, PAIR) for size in sizes), PAIR)


def test_what_is_written_to_records_that_are_open_stays(monkeypatch):
    monkeypatch.setattr(on_disk, "ROWS", 4)
    rows = blank(3, 5, 2)
    rows.within(0, 1)["count"] += 1
    rows.within(1, 6)["sum"] += 0.5
    rows.end(6)
    rows.within(6, 6)["count"] += 7
    pieces = list(rows.pieces())
    assert [len(piece) for piece in pieces] == [4, 4, 2]
    found = np.concatenate(pieces)
    assert found["count"].tolist() == [1, 1, 0, 0, 0, 0, 7, 0, 0, 0]
    assert found["sum"].tolist() == [0] + [0.5] * 6 + [0] * 3
    assert np.array_equal(np.concatenate(list(rows.pieces())), found), "they can be read again"


def test_only_records_that_can_change_are_in_memory():
    rows = blank(*[10] * 100)
    for record in range(0, 990, 5):
        rows.within(record, record + 9)
        rows.end(record + 5)
        assert len(rows._open) <= 20


@pytest.mark.parametrize(("first", "last"), [(3, 8), (6, 10), (11, 12)])
def test_a_record_that_ended_or_is_not_there_is_an_error(first, last):
    rows = blank(10)
    rows.within(0, 9)
    rows.end(5)
    with pytest.raises(LostRowsError, match=f"records {first} to {last}"):
        rows.within(first, last)


def test_without_records_there_is_one_piece_of_none():
    (piece,) = blank().pieces()
    assert len(piece) == 0
