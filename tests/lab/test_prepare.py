import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from virnuc_dask.config import settings_of
from virnuc_dask.errors import BadInputError, BadSettingError
from virnuc_dask.lab import prepare as preparing
from virnuc_dask.lab.prepare import prepare
from virnuc_dask.lab.recipe import Recipe, read_recipe
from virnuc_dask.sequences.records import read_records

DATA = {"table": "t", "phage": ["p"], "prokaryote": ["b"]}
HEADER = "record\tclass\tgroup\ttitle\tsource\tlength_nt\tphage_24mers\n"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, request):
    """Lambda as a phage, and in a bacterium of the demo; the demo's other contigs; a marker."""
    folder = tmp_path_factory.mktemp("lab")
    demo = read_records([str(request.config.rootpath / "tests/data/demo.fasta.gz")])
    phage, *bacteria = [record.dna for record in demo]
    host = bacteria[0][:4_000] + phage[2_000:18_000] + bacteria[1][:4_000]
    organelle = "".join(np.random.default_rng(1).choice(list("ACGT"), 2_000))
    sequences = {
        "phage": {"lambda": phage[:21_000]},
        "prokaryote": {"host": host, **{f"b{n}": bacteria[n + 2] for n in range(3)}},
        "eukaryote": {"organelle": organelle},
    }
    table = HEADER
    for kind, of in sequences.items():
        (folder / f"{kind}.fa").write_text("".join(f">{n}\n{dna}\n" for n, dna in of.items()))
        for n, dna in of.items():
            table += f"{n}\t{kind}\t{n}\tt\ts\t{len(dna)}\t{9 * (n == 'b2')}\n"
    (folder / "table.tsv").write_text(table)
    (folder / "markers.fa").write_text(f">GeneID:1\n{'ATGGCA' * 40}TAA\n")
    data = {kind: [str(folder / f"{kind}.fa")] for kind in sequences}
    data |= {"table": str(folder / "table.tsv"), "markers": str(folder / "markers.fa")}
    fragments = {"models": [20, 57], "noise_nt": 20_000}
    fragments["coverage"] = {"phage": 1.0, "eukaryote": 1.0}
    values = {"data": data, "fragments": fragments, "threads": 1}
    return settings_of(Recipe, values, "pretrain")


@pytest.fixture(scope="module")
def prepared(recipe, tmp_path_factory):
    if shutil.which("mmseqs") is None:
        pytest.skip("needs MMseqs2")
    return prepare(recipe, tmp_path_factory.mktemp("work"))


def columns(path):
    return pq.read_table(path).to_pydict()


def test_every_fragment_has_its_sequence_and_its_genes_their_fragment(prepared):
    fragments, genes = columns(prepared.fragments), columns(prepared.genes)
    sequences = columns(prepared.sequences)
    count = len(fragments["fragment"])
    assert fragments["fragment"] == sequences["fragment"] == list(range(count))
    assert [len(dna) for dna in sequences["dna"]] == fragments["length_nt"]
    assert set(fragments["class"]) == {"phage", "prokaryote", "eukaryote", "noise"}
    places = list(zip(genes["fragment"], genes["start"], strict=True))
    assert places == sorted(places)
    assert max(genes["fragment"]) < count
    forward = [row for row, strand in enumerate(genes["strand"]) if strand > 0]
    for row in forward[:50]:
        dna = sequences["dna"][genes["fragment"][row]]
        assert dna[genes["start"][row] : genes["end"][row]] == genes["dna"][row]


def test_a_phage_in_a_bacterium_is_found_and_what_shares_kmers_is_doubtful(prepared):
    names = ("record", "start", "end", "doubtful", "prophage")
    fragments = pq.read_table(prepared.fragments, columns=list(names)).to_pylist()
    for of in fragments:
        inside = of["record"] == "host" and 6_000 < of["start"] < of["end"] < 18_000
        if inside or of["record"] in ("b0", "b1", "b2", "lambda"):
            assert of["doubtful"] == (inside or of["record"] == "b2")
    assert {of["record"] for of in fragments if of["prophage"]} == {"host"}


def test_what_is_there_is_not_made_again(recipe, prepared, monkeypatch):
    folder = prepared.genes.parent
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")}
    monkeypatch.setattr(preparing, "gene_table", None)
    assert prepare(recipe, folder) == prepared
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.*")} == before


def test_a_preparation_that_was_stopped_goes_on_and_ends_the_same(
    recipe, prepared, tmp_path, monkeypatch
):
    calls = []

    def stopped(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given)

    real = preparing.gene_table
    monkeypatch.setattr(preparing, "BATCH_NT", 30_000)
    monkeypatch.setattr(preparing, "gene_table", stopped)
    found = pq.read_table(prepared.genes.parent / "hits.parquet")["gene"].to_numpy()
    monkeypatch.setattr(preparing.prophages, "hits", lambda *_: found)  # seconds each time
    with pytest.raises(KeyboardInterrupt):
        prepare(recipe, tmp_path)
    assert len(list((tmp_path / "called").glob("*.parquet"))) == 2
    again = prepare(recipe, tmp_path)
    for one, other in zip(again[:4], prepared[:4], strict=True):
        assert pq.read_table(one).equals(pq.read_table(other))
    parts = len(list((tmp_path / "called").glob("*.parquet")))
    assert len(calls) == parts + 1  # the one that was stopped, twice


@pytest.mark.parametrize(
    ("sums", "told"),
    [(5, r"table\.tsv: has the SHA-256 .* of the recipe"), (1, "must have 5 sums")],
)
def test_files_of_another_checksum_are_refused(recipe, tmp_path, sums, told):
    other = replace(recipe.data, sha256=("0" * 64,) * sums)
    with pytest.raises(BadInputError, match=told):
        prepare(replace(recipe, data=other), tmp_path)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"data": {**DATA, "phages": []}}, r"pretrain\.data\.phages"),
        ({"data": DATA | {"phage": []}}, r"data\.phage must be a list of at least 1"),
        ({"data": None}, r"pretrain\.data must be"),
        ({"fragments": {"coverage": {"phages": 1}}}, "coverage knows no phages; known: phage, "),
        ({"fit": {"words": {"shares": {"phage": 2}}}}, r"shares\.phage must be .* at most 1"),
    ],
)
def test_unknown_settings_are_refused(tmp_path, values, told):
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"pretrain": {"data": DATA} | values}))
    with pytest.raises(BadSettingError, match=told):
        read_recipe(path)
