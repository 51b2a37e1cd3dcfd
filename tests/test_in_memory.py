"""Sequences in memory: the numbers of a run, and a model set that stays."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import dask.bag
import dask.dataframe
import dnaio
import numpy as np
import pandas as pd
import pytest
from Bio.Seq import Seq
from Bio.SeqRecord import SeqRecord
from distributed import Client

from virnuc_dask import Settings, embed, map_partitions, release_models, run, score
from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import BadInputError, LostRowsError, UsageError
from virnuc_dask.tables.vectors import from_column

SETTINGS = Settings(cluster=ClusterSettings(kind="none", threads=1))
DEMO = Path(__file__).parent / "data" / "demo.fasta.gz"


@pytest.fixture(scope="module")
def records():
    """Ids and DNA: with genes, with frames alone, and without a letter."""
    with dnaio.open(DEMO) as stream:
        found = [(each.name.split()[0], each.sequence[:4000]) for each in stream][:5]
    return [*found, ("short", found[0][1][:250]), ("nothing", "")]


@pytest.fixture(scope="module", params=["mini", "frames_modelset"])
def model(request):
    name = request.param
    return name if name == "mini" else str(request.getfixturevalue(name))


@pytest.fixture(scope="module")
def done(model, records, tmp_path_factory):
    """A run over a file of the same records."""
    place = tmp_path_factory.mktemp("run")
    (place / "in.fa").write_text("".join(f">{name}\n{dna}\n" for name, dna in records))
    return run(place / "in.fa", place / "out", model, settings=SETTINGS)


@pytest.fixture
def loads(monkeypatch):
    """The model sets that this process loads from now on."""
    release_models()
    lifetime, names = import_module("virnuc_dask.modelsets.lifetime"), []
    load = lifetime.load
    monkeypatch.setattr(
        lifetime, "load", lambda source, *more: names.append(source.name) or load(source, *more)
    )
    yield names
    release_models()


def test_scores_are_those_of_a_run_to_the_last_digit(done, model, records):
    expected = done.contigs().drop(columns=["description", "sample"])
    assert len(expected) == len(records)
    assert expected["score"].notna().sum() > 1
    scored = score(records, model, settings=SETTINGS)
    pd.testing.assert_frame_equal(scored, expected, check_exact=True)


def test_embeddings_are_the_features_of_a_run(done, model, records):
    features = done.dataset("features").to_table()
    embedded = embed(records, model, settings=SETTINGS)
    assert embedded.rows["frame_id"].equals(features["frame_id"])
    assert {"record_id", "chunk_id", "strand"} <= set(embedded.rows.column_names)
    for name in ("nucleotide", "peptide"):
        values = getattr(embedded, name)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, from_column(features, name))
    none = embed([], model)
    assert none.rows.schema == embedded.rows.schema
    assert none.peptide.shape == (0, embedded.peptide.shape[1])


@pytest.mark.parametrize(
    "given",
    [
        dict,
        iter,
        lambda records: (SeqRecord(Seq(dna), id=name) for name, dna in records),
        lambda records: [(name, f"{dna[:9]}\n {dna[9:]}".lower()) for name, dna in records],
    ],
    ids=["mapping", "iterator", "records of Biopython", "lower case in lines"],
)
def test_sequences_come_in_many_forms(records, given):
    expected = score(records, settings=SETTINGS)
    pd.testing.assert_frame_equal(score(given(records), settings=SETTINGS), expected)
    plain = score([dna for _, dna in records], settings=SETTINGS, kind="arrow")
    assert plain["record_id"].to_pylist() == [str(n + 1) for n in range(len(records))]
    assert plain["probability"].to_pandas().equals(expected["probability"])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("contigs.fasta", UsageError, "a single text; give a list"),
        (["ACGT", 5], BadInputError, r"sequence 2 \(\) is no DNA; give a text"),
        ([("a", float("nan"))], BadInputError, r"sequence 1 \(a\) is no DNA"),
        ({"a b": "ACGT"}, BadInputError, "sequence 1: an id has no blanks, and 'a b' cannot be"),
        ({"": "ACGT"}, BadInputError, "and '' cannot be"),
        ({"a": ">b\nACGT"}, BadInputError, r"sequence 1 \(a\) is no DNA"),
        ({"a": "MKVLX"}, BadInputError, "sequences.fasta: record 'a' .* has 'L' at position 4"),
    ],
)
def test_what_is_no_sequence_is_told(given, error, message):
    with pytest.raises(error, match=message):
        score(given, settings=SETTINGS)


def test_what_cannot_be_computed_is_an_error(monkeypatch, records):
    stage = import_module("virnuc_dask.stages.extract")
    extract = stage.extract_features

    def fail(chunks, *more):
        if "short" in chunks["record_id"].to_pylist():
            raise RuntimeError("broken")
        return extract(chunks, *more)

    monkeypatch.setattr(stage, "extract_features", fail)
    with pytest.raises(LostRowsError, match="cannot be computed: RuntimeError: broken"):
        score(records, settings=SETTINGS)


def test_a_model_set_is_loaded_once_and_few_stay(loads, records, frames_modelset, genes_modelset):
    one, sets = records[:1], ["mini", str(frames_modelset), str(genes_modelset)]
    for _ in range(3):
        score(one, settings=SETTINGS)
        embed(one, settings=SETTINGS)
    assert loads == ["mini"]
    release_models()
    for name in (*sets, sets[2], sets[0]):
        score(one, name, settings=SETTINGS)
    assert loads == ["mini", *sets, "mini"], "two stay; the first one had gone"


@pytest.mark.parametrize("collection", ["frame", "bag"])
def test_partitions_of_dask_are_scored_with_one_model_set(loads, records, collection):
    rows = pd.DataFrame(records, columns=["name", "dna"]).set_index(np.arange(len(records)) * 10)
    expected = score(records, settings=SETTINGS).drop(columns="q_value")
    if collection == "frame":
        given = dask.dataframe.from_pandas(rows, npartitions=3)
        scored = map_partitions(given, id_column="name", sequence_column="dna")
        expected.index = rows.index
        assert scored._meta.dtypes.equals(expected.dtypes)
    else:
        scored = map_partitions(dask.bag.from_sequence(records, npartitions=3))
    loads.clear()
    release_models()
    with Client(processes=False, dashboard_address="127.0.0.1:0", threads_per_worker=2):
        found = scored.compute()
    # The last bit can depend on what a partition holds besides.
    pd.testing.assert_frame_equal(pd.DataFrame(found).astype(expected.dtypes), expected)
    assert loads == ["mini"]


def test_a_frame_that_cannot_be_scored_is_refused_at_once(caplog):
    frame = dask.dataframe.from_pandas(pd.DataFrame({"id": ["a"], "dna": ["ACGT"]}))
    with pytest.raises(UsageError, match="no column record_id, sequence; name yours with"):
        map_partitions(frame)
    with pytest.raises(UsageError, match="q-value need all records"):
        map_partitions(frame, settings=replace(SETTINGS, fdr=0.1))
    map_partitions(frame, id_column="id", sequence_column="dna")
    assert not caplog.records
