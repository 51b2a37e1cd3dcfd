"""From Python: the words of the command line, and tables that are there or told to be missing."""

import json
import sys
from dataclasses import replace

import pytest

from virnuc_dask import Settings, run
from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import BadOutputError, BadTableError, UsageError

SETTINGS = Settings(cluster=ClusterSettings(kind="none", threads=1))
DNA = "ATGGCTGAACGTCTGAAAGCTGCTGGTGCTGAACGT" * 20


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """One path, not a list of them, and all of it relative and with a colon."""
    place = tmp_path_factory.mktemp("python")
    (place / "lane:1.fa").write_text(f">a\n{DNA}\n>b\n{DNA}\n>c\n\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run("lane:1.fa", "out:1", settings=SETTINGS)
        again = run("lane:1.fa", "out:1", settings=SETTINGS, resume=True)
        assert again.summary["partitions"]["done_before"] == 1
        assert again.dataset("chunks").count_rows() == 2, "a piece of each, and none of nothing"
    return replace(again, folder=place / "out:1")


def test_every_table_is_a_dataset(done):
    assert done.dataset("records").to_table()["record_id"].to_pylist() == ["a", "b", "c"]
    assert done.dataset("chunks").count_rows() == done.dataset("partitions").count_rows() == 2
    frames = done.summary["frames"]
    assert done.dataset("features").count_rows() == frames
    assert done.dataset("predictions").count_rows() == frames > 0
    assert done.dataset("genes").count_rows() == done.summary["genes"]


def test_only_planned_tables_are_read(done):
    stray = done.folder / "features/part-00009.parquet"
    stray.write_bytes((done.folder / "features/part-00000.parquet").read_bytes())
    assert done.dataset("features").count_rows() == done.summary["frames"]
    stray.unlink()


def test_a_table_that_is_not_there_is_told(done, tmp_path):
    with pytest.raises(UsageError, match=r"no table 'frames'; there are contigs, chunks, records,"):
        done.dataset("frames")
    without = run(
        done.folder.parent / "lane:1.fa",
        tmp_path / "out",
        settings=replace(SETTINGS, features=False),
    )
    with pytest.raises(BadTableError, match="has no table 'features'; `run --resume --features`"):
        without.dataset("features")


def test_the_tables_of_an_empty_input_are_empty(tmp_path):
    (tmp_path / "none.fa").touch()
    empty = run(tmp_path / "none.fa", tmp_path / "out", settings=SETTINGS)
    for name in ("records", "chunks", "partitions", "predictions", "features"):
        assert empty.dataset(name).count_rows() == 0
    assert "label" in empty.dataset("predictions").schema.names


@pytest.mark.parametrize("table", ["contigs", "chunks", "genes"])
def test_tables_come_as_the_frames_that_are_asked_for(done, table):
    arrow = getattr(done, table)("arrow")
    pandas, polars = getattr(done, table)(), getattr(done, table)("polars")
    assert type(pandas).__module__.startswith("pandas")
    assert type(polars).__module__.startswith("polars")
    assert arrow.column_names == list(pandas.columns) == polars.columns
    assert len(arrow) == len(pandas) == len(polars) > 0
    assert arrow["record_id"].to_pylist() == polars["record_id"].to_list()


def test_what_is_not_known_of_a_record_is_null(done):
    contigs = done.contigs("arrow")
    assert contigs["score"].to_pylist()[2] is None, "nothing was scored of nothing"
    assert contigs["record_id"].to_pylist() == ["a", "b", "c"]


def test_a_library_that_is_missing_is_named(done, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(UsageError, match="polars is not installed: `pip install polars`, or ask"):
        done.contigs("polars")
    with pytest.raises(UsageError, match="no frame of kind 'R'; there are pandas, polars, arrow"):
        done.contigs("R")


def test_the_report_is_made_where_there_is_none(done):
    path = done.folder / "report.html"
    assert not path.exists()
    assert done.report() == path
    written = path.stat()
    assert b"</html>" in path.read_bytes()
    assert json.loads((done.folder / "run.json").read_text())["outputs"]["report.html"]
    assert done.report().stat().st_mtime_ns == written.st_mtime_ns, "it is not made again"


@pytest.mark.parametrize("out", ["x" * 300, "a\0b", "\ud800", "s3://bucket/out"])
def test_an_output_that_cannot_be_is_told(done, out):
    with pytest.raises(BadOutputError, match=r"cannot be written|looks like an address"):
        run(done.folder.parent / "lane:1.fa", out, settings=SETTINGS)
