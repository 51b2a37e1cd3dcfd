"""Runs of a model set that reads genes: the same results whatever the way, every row accounted."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file, save_file

from virnuc_dask import Settings, load_settings, run
from virnuc_dask.errors import (
    BadSettingError,
    LostRowsError,
    ModelSetError,
    PlanChangedError,
    UsageError,
)
from virnuc_dask.lab.train import train
from virnuc_dask.modelsets.manifest import ContigModelSpec, read_info, write_info
from virnuc_dask.run import predict
from virnuc_dask.sequences.genes import gene_caller
from virnuc_dask.sequences.records import read_records

DEMO = Path(__file__).parent / "data" / "demo.fasta.gz"
STOPS = "TTAGTTAATTAACTAA"  # in every frame
CONTIG_MODEL = "contig_model.safetensors"
RESULTS = (
    "prediction_results.txt",
    "prediction_results_highestscore.csv",
    "contigs.tsv",
    "virus.fasta",
    "chunks.parquet",
    "genes.parquet",
    *(f"virus_regions.{kind}" for kind in ("tsv", "bed", "gff3", "fasta")),
    "contigs.parquet",
)


@pytest.fixture(scope="module")
def records() -> dict[str, str]:
    """Beginnings of real contigs, and records that are too short for genes, or have none."""
    first, second = [record.dna for record in read_records([str(DEMO)])][:2]
    return {
        "lambda": first[:21_000],  # over two partitions
        "bacterium": second[:9_000],
        "read_50": second[1000:1050],
        "read_200": second[1000:1200],
        "read_299": first[1000:1299],
        "read_300": first[1000:1300],
        "stops": STOPS * 60,
        "unknown": "N" * 700,
        "empty": "",
        "ends": first[2000:2100] + second[4000:8000] + first[2000:2100],
        "lower": second[9000:12_000].lower(),
    }


@pytest.fixture(scope="module")
def fasta(records, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("genes") / "records.fasta"
    path.write_text("".join(f">{name}\n{dna}\n" for name, dna in records.items()))
    return path


@pytest.fixture(scope="module")
def settings(genes_modelset) -> Settings:
    flags = {"model": str(genes_modelset), "partition_chunks": 3, "cluster.kind": "none"}
    return load_settings(flags=flags | {"cluster.threads": 1, "cluster.dashboard_port": 0})


@pytest.fixture(scope="module")
def plain_run(fasta, settings, tmp_path_factory):
    """What every other way has to give too."""
    return run([fasta], tmp_path_factory.mktemp("plain") / "out", settings=settings)


@pytest.fixture(scope="module")
def contigs(plain_run) -> dict[str, dict[str, str]]:
    """``contigs.tsv`` by record."""
    return {row["record_id"]: row for row in table_of(plain_run.folder / "contigs.tsv")}


@pytest.fixture
def copied(plain_run, tmp_path) -> Path:
    return Path(shutil.copytree(plain_run.folder, tmp_path / "copy"))


@pytest.fixture
def other_contig_model(genes_modelset, settings, tmp_path) -> Settings:
    """Settings with the same model set but for its contig model, which says the opposite."""
    folder = Path(shutil.copytree(genes_modelset, tmp_path / "other"))
    arrays = load_file(folder / CONTIG_MODEL)
    weight = "genes.logistic.weight"
    save_file(arrays | {weight: -arrays[weight]}, folder / CONTIG_MODEL)
    write_info(folder, read_info(folder))
    return replace(settings, model=str(folder))


def table_of(path: Path) -> list[dict[str, str]]:
    """The rows of a tab-separated file."""
    header, *rows = path.read_text().splitlines()
    return [dict(zip(header.split("\t"), row.split("\t"), strict=True)) for row in rows]


def assert_same_results(ours: Path, expected: Path) -> None:
    for name in RESULTS:
        assert (ours / name).read_bytes() == (expected / name).read_bytes(), name


def test_every_record_piece_and_row_is_accounted_for(plain_run, records, contigs):
    found = plain_run.summary
    assert list(contigs) == list(records)
    assert sum(found["contigs"].values()) == found["records"] == len(records)
    assert found["chunks"] == plain_run.dataset("chunks").count_rows() == 14
    rows = plain_run.dataset("predictions").to_table()
    assert found["frames"] == len(rows) == plain_run.dataset("features").count_rows()
    assert found["genes"] == plain_run.dataset("genes").count_rows()
    assert found["genes"] == rows["reading"].to_pylist().count("genes") < len(rows)
    assert found["genes"] == sum(int(row["genes"]) for row in contigs.values())
    frames, chunks = (table_of(plain_run.folder / name) for name in RESULTS[:2])
    assert [row["Sequence_ID"] for row in frames] == rows["frame_id"].to_pylist()
    assert len(chunks) == found["chunks_scored"]
    assert "NaN" not in (plain_run.folder / "run.json").read_text()
    assert None in [contig["probability"] for contig in found["highest"]]


def test_what_a_call_rests_on_stands_beside_it(contigs):
    reading = {name: row["reading"] for name, row in contigs.items()}
    by_frames, by_nothing = ("read_50", "read_200", "read_299"), ("stops", "unknown", "empty")
    expected = dict.fromkeys(contigs, "genes") | dict.fromkeys(by_frames, "frames")
    assert reading == expected | dict.fromkeys(by_nothing, "")
    for name, row in contigs.items():
        assert bool(row["reliability"]) == (reading[name] == "genes") == (int(row["genes"]) > 0)
        assert (row["call"] == "unscored") == (not reading[name]) == (not row["score"])
        assert 0 <= int(row["viral_genes"]) <= int(row["genes"])
        assert 0 <= float(row["coding_density"]) <= 1
    assert [name for name, row in contigs.items() if row["topology"]] == ["ends"]
    assert float(contigs["lambda"]["coding_density"]) > 0.9
    by_genes = [row for row in contigs.values() if row["reading"] == "genes"]
    assert all(row["score"] == row["probability"] for row in by_genes)


def test_a_record_that_lies_beyond_what_the_contig_model_knows_is_unsure(contigs, plain_run):
    unsure = {name for name, row in contigs.items() if row["call"] == "unsure"}
    assert unsure == {"read_300"}  # one gene
    assert plain_run.summary["contigs"]["unsure"] == 1
    assert plain_run.summary["called_by"] == "probability >= 0.6"


def test_genes_are_those_of_the_whole_record_but_where_a_piece_ends(plain_run, records):
    rows = plain_run.dataset("genes").to_table().to_pylist()
    ours = {
        (row["record_id"], row["start"], row["end"], row["strand"])
        for row in rows
        if row["record_id"] in ("lambda", "bacterium")
    }
    names = ("lambda", "bacterium")
    genes = gene_caller("pyrodigal-gv", (2, 20, 45)).find([records[name] for name in names])
    places = (genes.sequence, genes.start, genes.end, genes.strand)
    whole = {
        (names[record], start, end, "+" if strand > 0 else "-")
        for record, start, end, strand in zip(*(at.tolist() for at in places), strict=True)
    }
    assert len(ours) == len(whole)
    # One is longer than half of what pieces share.
    assert ours - whole == {("bacterium", 6581, 8000, "-")}


def test_workers_that_load_anew_for_each_partition_do_not_change_the_results(
    fasta, settings, plain_run, tmp_path
):
    cluster = replace(settings.cluster, kind="cpu", workers=2)
    changed = replace(settings, cluster=cluster, persistent_models=False)
    done = run([fasta], tmp_path / "out", settings=changed)
    assert_same_results(done.folder, plain_run.folder)
    loads = [worker["model_loads"] for worker in done.summary["model_loads"]]
    assert sum(loads) == done.summary["partitions"]["computed"]


def test_what_is_missing_is_computed_again(fasta, settings, plain_run, copied):
    for name in ("features/part-00001.parquet", "predictions/part-00001.parquet", *RESULTS):
        (copied / name).unlink()
    again = run([fasta], copied, settings=settings, resume=True)
    assert again.summary["partitions"]["computed"] == 1
    assert_same_results(copied, plain_run.folder)


def test_another_contig_model_calls_anew_and_computes_nothing(
    fasta, other_contig_model, plain_run, copied
):
    again = run([fasta], copied, settings=other_contig_model, resume=True)
    assert again.summary["partitions"]["computed"] == 0
    assert again.summary["contigs"]["virus"] < plain_run.summary["contigs"]["virus"]
    for name in ("genes.parquet", "chunks.parquet", "prediction_results.txt"):
        assert (copied / name).read_bytes() == (plain_run.folder / name).read_bytes()
    scored = predict(copied, settings=other_contig_model)
    assert scored.summary["contigs"] == again.summary["contigs"]


def test_regions_q_values_are_by_rates_where_the_contig_model_has_some(
    fasta, genes_modelset, settings, contigs, plain_run, copied, tmp_path
):
    """A rate that makes half a region false in the DNA that is not called virus."""
    folder = Path(shutil.copytree(genes_modelset, tmp_path / "rated"))
    others = [row for row in contigs.values() if row["call"] != "virus"]
    length_nt = sum(int(row["length_nt"]) for row in others)
    rate = {"regions.false_rates": np.array([[-9.0], [0.5e6 / length_nt]])}
    save_file(load_file(folder / CONTIG_MODEL) | rate, folder / CONTIG_MODEL)
    write_info(folder, read_info(folder))
    run([fasta], copied, settings=replace(settings, model=str(folder)), resume=True)
    regions = table_of(copied / "virus_regions.tsv")
    within = [row for row in regions if contigs[row["record_id"]]["call"] != "virus"]
    expected = 0.5 / max(len(within), 1)
    assert [float(row["q_value"]) for row in regions] == pytest.approx(
        [expected] * len(regions), abs=1e-6
    )
    before = table_of(plain_run.folder / "virus_regions.tsv")
    assert [row | {"q_value": ""} for row in regions] == [row | {"q_value": ""} for row in before]


def test_a_damaged_contig_model_is_refused_before_anything_is_written(
    fasta, other_contig_model, tmp_path, command
):
    model = other_contig_model.model
    path = Path(model) / CONTIG_MODEL
    path.write_bytes(path.read_bytes()[:-1])
    code, _, stderr = command("run", fasta, "-o", tmp_path / "out", "--model", model)
    assert (code, (tmp_path / "out").exists()) == (4, False)
    assert CONTIG_MODEL in stderr
    assert "damaged" in stderr


@pytest.mark.parametrize(("columns", "reading"), [(2, "genes"), (3, "frames")])
def test_a_contig_model_of_another_set_is_refused_before_anything_is_written(
    fasta, genes_modelset, settings, contig_model, tmp_path, columns, reading
):
    folder = Path(shutil.copytree(genes_modelset, tmp_path / "other"))
    contig_model(columns, reading).save(folder / CONTIG_MODEL)
    write_info(folder, read_info(folder))
    with pytest.raises(ModelSetError, match=r"not a contig model for genes with 3 column"):
        run([fasta], tmp_path / "out", settings=replace(settings, model=str(folder)))
    assert not (tmp_path / "out").exists()


def test_a_piece_that_fails_costs_its_own_rows_and_is_tried_again(
    fasta, settings, plain_run, records, tmp_path, monkeypatch
):
    marked = records["ends"][2000:2060]
    real = gene_caller("pyrodigal-gv", (2, 20, 45))

    def find(sequences, threads):
        if any(marked in dna for dna in sequences if len(dna) < 5000):
            raise RuntimeError("as if the caller had failed")
        return real.find(sequences, threads)

    with monkeypatch.context() as patch:
        patch.setattr(
            "virnuc_dask.modelsets.modelset.gene_caller", lambda *_: SimpleNamespace(find=find)
        )
        done = run([fasta], tmp_path / "out", settings=settings)
    (failed,) = table_of(tmp_path / "out" / "failed.tsv")
    assert failed["chunk_id"] == "ends_chunk_1"
    with pytest.raises(LostRowsError, match=r"1 piece\(s\) failed"):
        done.require_complete()
    ours, whole = (table_of(of.folder / "contigs.tsv") for of in (done, plain_run))
    assert [a["record_id"] for a, b in zip(ours, whole, strict=True) if differ(a, b)] == ["ends"]
    again = run([fasta], tmp_path / "out", settings=settings, resume=True)
    assert again.summary["partitions"]["computed"] == 1
    assert_same_results(tmp_path / "out", plain_run.folder)


def differ(ours: dict[str, str], whole: dict[str, str]) -> bool:
    """Whether rows differ in more than their q-values, which depend on all records."""
    return ours | {"q_value": ""} != whole | {"q_value": ""}


def test_the_tables_tell_of_genes_and_of_what_the_contig_model_saw(plain_run):
    features = pq.read_table(plain_run.folder / "features" / "part-00000.parquet").to_pydict()
    rows = pq.read_table(plain_run.folder / "predictions" / "part-00000.parquet").to_pydict()
    for row, evidence in enumerate(rows["evidence"]):
        logit = np.log(rows["score_virus"][row]) - np.log(rows["score_others"][row])
        seen = [features["nucleotide"][row][1], features["peptide"][row][7 - 3]]
        np.testing.assert_allclose(evidence, [logit, *seen], rtol=1e-5)
    places = list(zip(rows["chunk_row"], rows["start"], strict=True))
    assert places == sorted(places)


def test_regions_stand_in_a_table(plain_run):
    regions = table_of(plain_run.folder / "virus_regions.tsv")
    assert regions
    assert list(regions[0])[4:] == ["genes", "score", "probability", "q_value"]
    rows = plain_run.dataset("genes").to_table().to_pylist()
    for region in regions:
        genes = [
            row
            for row in rows
            if (row["record_id"], str(row["region"])) == (region["record_id"], region["region"])
        ]
        assert len(genes) == int(region["genes"]) >= 3
        assert min(row["start"] for row in genes) == int(region["start"])
        assert max(row["end"] for row in genes) == int(region["end"])
        assert all(row["viral_probability"] >= 0.5 for row in genes)
    assert sum(int(region["genes"]) for region in regions) == sum(bool(r["region"]) for r in rows)


def test_what_is_told_of_a_run_is_of_pieces_and_genes(fasta, settings, command, tmp_path):
    way = ("--cluster", "none", "--verbose", "--model", settings.model)
    code, stdout, stderr = command("run", fasta, "-o", tmp_path / "out", *way)
    assert code == 0
    assert "genes           39 (31 viral)" in stdout
    assert "unsure 1" in stdout
    assert re.search(r"frames          \d+ \(where there is no gene\)", stdout)
    assert "11 records, 14 pieces of at most 8000 nt; partitions: 1, " in stderr
    assert re.search(r"partition 0 done on worker \S+: 14 pieces, \d+ genes or frames, ", stderr)
    assert "open frame" not in stdout
    assert "chunks" not in stderr


def test_the_printed_list_is_as_long_as_asked_for_and_says_what_it_leaves_out(
    settings, contigs, copied, command
):
    way = ("--cluster", "none", "--model", settings.model)
    code, stdout, _ = command("predict", copied, "--top", 2, "--min-length", 4000, *way)
    assert code == 0
    long = [row for row in contigs.values() if int(row["length_nt"]) >= 4000]
    long.sort(key=lambda row: -float(row["score"]))
    lines = stdout.splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("most viral"))
    assert [line.split()[-1] for line in lines[first : first + 2]] == [
        row["record_id"] for row in long[:2]
    ]
    viral = sum(row["call"] == "virus" for row in contigs.values() if row not in long)
    told = f"8 below 4,000 nt, of them {viral} virus or virus_region; the files hold all"
    assert lines[first + 2] == f"not listed      {told}"
    assert len(table_of(copied / "contigs.tsv")) == len(contigs)
    assert len(json.loads((copied / "run.json").read_text())["summary"]["highest"]) == 5


def test_a_chunk_length_of_other_sets_is_refused(fasta, settings, command, tmp_path):
    way = ("--model", settings.model, "--length", "300")
    code, _, stderr = command("run", fasta, "-o", tmp_path / "out", *way)
    assert (code, (tmp_path / "out").exists()) == (2, False)
    assert "reads genes; what has none goes by chunks of 500 nt, not of 300" in stderr


def test_another_gene_caller_is_another_run(fasta, settings, copied):
    with pytest.raises(PlanChangedError, match=r"gene caller \(pyrodigal-gv, now fast\)"):
        run([fasta], copied, settings=replace(settings, gene_caller="fast"), resume=True)


def test_a_gene_caller_is_for_sets_that_read_genes(fasta, frames_modelset, tmp_path):
    flags = {"cluster.kind": "none", "gene_caller": "pyrodigal-gv", "model": str(frames_modelset)}
    settings = load_settings(flags=flags)
    with pytest.raises(BadSettingError, match="'frames' reads frames"):
        run([fasta], tmp_path / "out", settings=settings)
    with pytest.raises(BadSettingError, match="gene_caller must be one of"):
        load_settings(flags={"gene_caller": "prokka"})


def test_what_knows_frames_alone_refuses_the_set(fasta, settings, tmp_path):
    with pytest.raises(UsageError, match=r"train: .*'genes' reads genes.*`virnuc-dask models imp"):
        train([fasta], [fasta], tmp_path / "out", settings=settings)
    assert not (tmp_path / "out").exists()


def test_a_contig_model_calls_the_records_of_a_set_that_reads_frames(
    fasta, settings, contig_model, parity_modelset, tmp_path
):
    model = Path(shutil.copytree(parity_modelset, tmp_path / "set"))
    contig_model(1, "frames").save(model / CONTIG_MODEL)
    spec = ContigModelSpec(CONTIG_MODEL, called=((1, 0.503),), reliable=0.6)
    write_info(model, replace(read_info(model), contig_model=spec))
    settings = replace(settings, model=str(parity_modelset), partition_chunks=40)
    run([fasta], tmp_path / "out", settings=settings)
    before = table_of(tmp_path / "out" / "contigs.tsv")
    settings = replace(settings, model=str(model))
    done = run([fasta], tmp_path / "out", settings=settings, resume=True)
    assert done.summary["partitions"]["computed"] == 0
    assert done.summary["called_by"] == "probability >= 0.503"
    logits: dict[str, list[float]] = {}
    for row in done.dataset("predictions").to_table().to_pylist():
        logit = np.log(row["score_virus"] / row["score_others"])
        logits.setdefault(row["record_id"], []).append(logit)
    for plain, ours in zip(before, table_of(tmp_path / "out" / "contigs.tsv"), strict=True):
        assert ours.keys() == plain.keys()
        assert ours["score"] == plain["score"]
        if ours["call"] in ("virus", "others"):
            expected = 1 / (1 + np.exp(-np.mean(logits[ours["record_id"]])))
            assert float(ours["probability"]) == pytest.approx(expected, abs=2e-6)
            assert (ours["call"] == "virus") == (float(ours["probability"]) >= 0.503)
    calls = done.summary["contigs"]
    assert sum(calls.values()) == done.summary["records"]
    assert min(calls["unsure"], calls["virus"], calls["others"]) > 0
    assert not (done.folder / "genes.parquet").exists()


def test_genes_can_be_called_by_our_own_caller(fasta, settings, contigs, tmp_path):
    fast = replace(settings, gene_caller="fast")
    done = run([fasta], tmp_path / "out", settings=fast)
    rows = {row["record_id"]: row for row in table_of(tmp_path / "out" / "contigs.tsv")}
    assert int(rows["lambda"]["genes"]) == pytest.approx(int(contigs["lambda"]["genes"]), abs=3)
    assert done.summary["contigs"]["unscored"] == 3
    again = run([fasta], tmp_path / "out", settings=settings, resume=True)
    assert again.summary["partitions"]["computed"] == 0, "as planned, where nothing else is asked"
