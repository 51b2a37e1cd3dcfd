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
from virnuc_dask.tables.parquet import read_fingerprint

pytestmark = pytest.mark.skipif(shutil.which("mmseqs") is None, reason="needs MMseqs2")
HEADER = "record\tclass\tgroup\ttitle\tsource\tlength_nt\tphage_24mers\n"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory, request):
    """Lambda as a phage, and in a bacterium of the demo; the demo's other contigs; a marker."""
    folder = tmp_path_factory.mktemp("lab")
    demo = [
        r.dna for r in read_records([str(request.config.rootpath / "tests/data/demo.fasta.gz")])
    ]
    phage, *bacteria = demo
    sequences = {
        "phage": {"lambda": phage[:21_000]},
        "prokaryote": {
            "host": bacteria[0][:4_000] + phage[2_000:18_000] + bacteria[1][:4_000],
            **{f"b{n}": dna for n, dna in enumerate(bacteria[2:5])},
        },
        "eukaryote": {"organelle": "".join(np.random.default_rng(1).choice(list("ACGT"), 2_000))},
    }
    lines = []
    for kind, of in sequences.items():
        (folder / f"{kind}.fa").write_text("".join(f">{n}\n{dna}\n" for n, dna in of.items()))
        lines += [
            f"{n}\t{kind}\t{n}\tt\ts\t{len(dna)}\t{9 * (n == 'b2')}\n" for n, dna in of.items()
        ]
    (folder / "table.tsv").write_text(HEADER + "".join(lines))
    (folder / "markers.fa").write_text(f">GeneID:1\n{'ATGGCA' * 40}TAA\n")
    files = {kind: [str(folder / f"{kind}.fa")] for kind in sequences}
    data = {"table": str(folder / "table.tsv"), "markers": str(folder / "markers.fa"), **files}
    fragments = {
        "models": [20, 57],
        "noise_nt": 20_000,
        "coverage": {"phage": 1.0, "eukaryote": 1.0},
    }
    tests = {"lengths_nt": [500, 3_000], "prophage_lengths_nt": [3_000]}
    values = {"data": data, "fragments": fragments, "tests": tests, "threads": 1}
    return settings_of(Recipe, values, "pretrain")


@pytest.fixture(scope="module")
def prepared(recipe, tmp_path_factory):
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
    fragments = columns(prepared.fragments)
    rows = list(zip(*(fragments[n] for n in ("record", "start", "end", "doubtful")), strict=True))
    assert all(
        doubt
        for record, start, end, doubt in rows
        if record == "host" and 6_000 < start < end < 18_000
    )
    assert not any(doubt for record, _, _, doubt in rows if record in ("b0", "b1", "lambda"))
    assert all(doubt for record, _, _, doubt in rows if record == "b2")
    in_prophage = zip(fragments["record"], fragments["prophage"], strict=True)
    assert {record for record, is_prophage in in_prophage if is_prophage} == {"host"}


def test_markers_and_test_contigs_are_there(prepared):
    assert columns(prepared.markers)["kind"] == ["virus"]
    assert (prepared.tests / "contigs.tsv").read_text().startswith("contig\ttest\tclass\tlabel")


def test_what_is_there_is_not_made_again(recipe, prepared, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in prepared.tests.parent.rglob("*.*")}
    monkeypatch.setattr(preparing, "gene_table", None)
    assert prepare(recipe, prepared.tests.parent) == prepared
    assert {path: path.stat().st_mtime_ns for path in prepared.tests.parent.rglob("*.*")} == before


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
    found = pq.read_table(prepared.tests.parent / "hits.parquet")["gene"].to_numpy()
    monkeypatch.setattr(preparing.prophages, "hits", lambda *_: found)  # seconds each time
    with pytest.raises(KeyboardInterrupt):
        prepare(recipe, tmp_path)
    done = len(list((tmp_path / "called").glob("*.parquet")))
    assert done == 2
    again = prepare(recipe, tmp_path)
    for name in ("fragments", "genes", "markers", "sequences"):
        assert pq.read_table(getattr(again, name)).equals(pq.read_table(getattr(prepared, name)))
    parts = len(list((tmp_path / "called").glob("*.parquet")))
    assert len(calls) == parts + 1  # the one that was stopped, twice


def test_other_splits_keep_the_genes_and_other_seeds_do_not(recipe, prepared):
    prints = preparing._fingerprints(recipe)
    assert read_fingerprint(prepared.genes) == prints["fragments"]
    splits = preparing._fingerprints(replace(recipe, splits=replace(recipe.splits, folds=4)))
    changed = {name for name in prints if splits[name] != prints[name]}
    assert changed == {"fragments", "markers", "tests"}
    assert not set(preparing._fingerprints(replace(recipe, seed=2)).values()) & set(prints.values())


def test_files_of_another_checksum_are_refused(recipe, tmp_path):
    files = len(recipe.data.sources)
    other = replace(recipe.data, sha256=("0" * 64,) * files)
    with pytest.raises(BadInputError, match=r"table\.tsv: has the SHA-256 .* of the recipe"):
        prepare(replace(recipe, data=other), tmp_path)
    few = replace(recipe.data, sha256=("0" * 64,))
    with pytest.raises(BadInputError, match="must have 5 sums"):
        prepare(replace(recipe, data=few), tmp_path)


def test_the_recipe_of_mini_is_one_and_unknown_settings_are_refused(request, tmp_path):
    mini = read_recipe(request.config.rootpath / "configs" / "mini.yaml")
    assert len(mini.fragments.models) == 24
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({"pretrain": {"data": {"table": "t", "phages": []}}}))
    with pytest.raises(BadSettingError, match=r"pretrain\.data\.phages"):
        read_recipe(path)
    path.write_text("pretrain:\n  seed: 1\n")
    with pytest.raises(BadSettingError, match=r"pretrain\.data is missing"):
        read_recipe(path)
