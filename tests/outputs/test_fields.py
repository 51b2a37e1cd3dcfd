"""Tables that others read: every row and every id, with what their readers take for granted."""

import csv
import re
from pathlib import Path

import pandas as pd
import pyarrow.csv
import pytest

from virnuc_dask import Settings, run
from virnuc_dask.config import ClusterSettings
from virnuc_dask.outputs.fields import fields

DNA = "ATGGCTGAACGTCTGAAAGCTGCTGGTGCTGAACGT" * 5
IDS = ['"a', "b", 'c"', '"d"', '""', 'e"f', "'g", "it's", "=h", "@i", "#j", "k,l", "m;n", "1", "λ"]
PLACE = re.compile(r"(_chunk_\d+|_\d+_\d+)([FR]\d)?$")  # of a piece, of a frame in its record
TABLES = {
    "contigs.tsv": "record_id",
    "prediction_results.txt": "Sequence_ID",
    "prediction_results_highestscore.csv": "Modified_ID",
}


def test_only_what_would_be_misread_is_quoted():
    texts = ["plain", "it's", "=1+1", "a,b", "", '"a', "a\tb", "a\nb"]
    assert fields(texts)[:5] == texts[:5]
    assert fields(texts)[5:] == ['"""a"', '"a\tb"', '"a\nb"']


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("quotes")
    (place / "in.fa").write_text("".join(f">{name}\n{DNA}\n" for name in IDS))
    settings = Settings(cluster=ClusterSettings(kind="none", threads=1))
    return run(place / "in.fa", place / "out", settings=settings).folder


def by_pandas(path: Path, column: str) -> list[str]:
    return [str(name) for name in pd.read_csv(path, sep="\t")[column]]


def by_arrow(path: Path, column: str) -> list[str]:
    options = pyarrow.csv.ParseOptions(delimiter="\t")
    return pyarrow.csv.read_csv(path, parse_options=options)[column].to_pylist()


def by_polars(path: Path, column: str) -> list[str]:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    return polars.read_csv(path, separator="\t")[column].to_list()


def by_duckdb(path: Path, column: str) -> list[str]:
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    return [name for (name,) in duckdb.read_csv(str(path)).project(column).fetchall()]


def by_rule(path: Path, column: str) -> list[str]:
    """As R's ``read.delim`` and spreadsheets do: tabs between fields, quotes by RFC 4180."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [row[column] for row in csv.DictReader(stream, delimiter="\t", strict=True)]


@pytest.mark.parametrize("read", [by_pandas, by_arrow, by_polars, by_duckdb, by_rule])
@pytest.mark.parametrize("name", TABLES)
def test_every_id_is_read_as_it_was_given(folder, name, read):
    rows = read(folder / name, TABLES[name])
    assert len(rows) == len((folder / name).read_text().splitlines()) - 1
    assert {PLACE.sub("", row) for row in rows} == set(IDS)
