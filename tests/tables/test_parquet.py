import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from virnuc_dask.errors import BadTableError
from virnuc_dask.tables import parquet, schemas
from virnuc_dask.tables.parquet import (
    count_rows,
    is_done,
    read_pieces,
    read_table,
    table_writer,
    write_table,
    write_text,
    written_whole,
)
from virnuc_dask.tables.vectors import to_column


@pytest.fixture
def features() -> pa.Table:
    """A small feature table, with texts, numbers and vectors."""
    rows, dim = 40, 4
    rng = np.random.default_rng(1)
    given = {
        "frame_id": [f"r_chunk_{row}F1" for row in range(rows)],
        "chunk_id": [f"r_chunk_{row}" for row in range(rows)],
        "record_id": ["r"] * rows,
        "chunk_row": range(rows),
        "strand": ["F"] * rows,
        "nucleotide": to_column(rng.random((rows, dim), np.float32), "float32"),
        "peptide": to_column(rng.random((rows, dim), np.float32), "float32"),
    }
    return schemas.filled(schemas.features(dim, dim), given, rows)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "part-00000.parquet"


def test_a_table_comes_back_as_it_was(path, features):
    write_table(path, features, "mine")
    assert is_done(path, "mine")
    assert count_rows(path) == 40
    assert read_table(path, "mine").equals(features)
    assert read_table(path, "mine").schema == features.schema
    picked = read_table(path, "mine", ["chunk_row", "frame_id"])
    assert picked.equals(features.select(["chunk_row", "frame_id"]))
    write_table(path, features.slice(0, 0), "mine")
    assert read_table(path, "mine").equals(features.slice(0, 0))


def test_pieces_make_one_table_and_the_fingerprint_is_asked_after_the_last(path, features):
    written = []
    with table_writer(path, features.schema, lambda: f"of {len(written)} pieces") as writer:
        for start in (0, 10, 30):
            piece = features.slice(start, {0: 10, 10: 20, 30: 10}[start])
            writer.write(piece)
            written.append(piece)
    assert read_table(path, "of 3 pieces").equals(features)


READERS = [read_table, lambda *given: list(read_pieces(*given))]


@pytest.mark.parametrize("read", READERS, ids=["whole", "in pieces"])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:-20]), "damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "damaged"),
        (lambda path: None, "was made from other input"),
    ],
)
def test_a_table_that_is_not_the_planned_one_is_not_done_and_refused(
    path, features, read, spoil, told
):
    write_table(path, features, "mine" if told == "damaged" else "theirs")
    spoil(path)
    assert not is_done(path, "mine")
    with pytest.raises(BadTableError, match=f"{path}: {told}"):
        read(path, "mine")


def test_no_damaged_byte_changes_a_value_unseen(path, features):
    write_table(path, features, "mine")
    whole, rng = path.read_bytes(), random.Random(5)
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        is_done(path, "mine")  # says yes or no, and raises nothing
        with suppress(BadTableError):
            table = read_table(path, "mine")
            # Padding; or a column's name or type, which whoever asks for the column misses.
            assert table.columns == features.columns or table.schema != features.schema


def test_a_file_written_whole_is_there_only_at_the_end(tmp_path):
    path = tmp_path / "out.txt"
    with written_whole(path) as stream:
        stream.write(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt()])
def test_an_error_while_writing_leaves_what_was_there(tmp_path, error):
    def write_half(name: str) -> None:
        with written_whole(tmp_path / name) as stream:
            stream.write(b"half")
            raise error

    write_text(tmp_path / "old", "näme →\n")
    for name in ("old", "new"):
        with pytest.raises(type(error)):
            write_half(name)
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]
    assert (tmp_path / "old").read_bytes() == "näme →\n".encode()


def test_embeddings_have_no_statistics_and_repeating_texts_a_dictionary(path, features):
    write_table(path, features, "mine")
    group = pq.read_metadata(path).row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    with_statistics = {name for name, column in columns.items() if column.is_stats_set}
    assert with_statistics == {name for name in columns if ".list." not in name}
    encoded = {name for name, c in columns.items() if c.has_dictionary_page}
    assert encoded == {"record_id", "strand"}


def test_a_table_can_be_read_in_pieces(path, features, monkeypatch):
    write_table(path, features, "mine")
    monkeypatch.setattr(parquet, "ROWS", 15)
    pieces = list(read_pieces(path, "mine"))
    assert [len(piece) for piece in pieces] == [15, 15, 10]
    assert pa.concat_tables(pieces).equals(features)


def test_no_more_than_a_row_group_is_read_at_a_time(tmp_path):
    path, schema = tmp_path / "table.parquet", pa.schema([("value", pa.float64())])
    rng = np.random.default_rng(4)
    with table_writer(path, schema, lambda: "mine") as writer:
        for _ in range(30):
            writer.write(pa.table([rng.random(parquet.ROWS)], schema=schema))
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in read_pieces(path, "mine")]
    assert len(held) == 30
    assert max(held) < 5 * 8 * parquet.ROWS, "of 30 times as much"


def test_small_pieces_become_one_row_group(path, features, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS", 25)
    with table_writer(path, features.schema, lambda: "mine") as writer:
        for at in range(0, 40, 10):
            writer.write(features.slice(at, 10))
    footer = pq.read_metadata(path)
    sizes = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    assert sizes == [30, 10]
    assert read_table(path, "mine").equals(features)
