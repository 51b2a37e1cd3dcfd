"""Runs of pairs, samples and descriptions: what users give, and what they find."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from virnuc_dask.config import Settings, load_settings
from virnuc_dask.errors import OutputExistsError, PlanChangedError
from virnuc_dask.modelsets.manifest import read_info
from virnuc_dask.outputs.pairs import as_pairs
from virnuc_dask.run import predict, run
from virnuc_dask.sequences.records import read_records
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_run_json, write_run_json

DEMO = Path(__file__).parent / "data" / "demo.fasta.gz"
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
HEADS = ("m{} 1:N:0:ACGT", "m{} 2:N:0:ACGT")


@pytest.fixture(scope="module")
def mates() -> list[tuple[str, str]]:
    """Pairs of many lengths, cut from phage lambda and a bacterium; some hold no open frame."""
    dna = [record.dna for record in read_records([str(DEMO)])][:2]
    pairs = []
    for n in range(24):
        fragment = dna[n % 2][n * 300 :][: 1600 if n % 5 else 700]
        sizes = (150, 150) if n % 3 else (700, 650)
        pairs.append((fragment[: sizes[0]], fragment.translate(COMPLEMENT)[::-1][: sizes[1]]))
    return [*pairs, ("N" * 90, pairs[0][1]), (pairs[1][0], ""), ("NNN", "")]


@pytest.fixture
def reads(mates, tmp_path) -> tuple[Path, Path]:
    """Two files of them."""
    for which in (0, 1):
        lines = (f">{HEADS[which].format(n)}\n{pair[which]}\n" for n, pair in enumerate(mates))
        (tmp_path / f"gut_R{which + 1}.fasta").write_text("".join(lines))
    return tmp_path / "gut_R1.fasta", tmp_path / "gut_R2.fasta"


@pytest.fixture
def contigs(tmp_path) -> Path:
    """A file of three contigs."""
    dna = [record.dna for record in read_records([str(DEMO)])][:3]
    path = tmp_path / "contigs.fasta"
    path.write_text("".join(f">c{n} of {n}\n{text[:4000]}\n" for n, text in enumerate(dna)))
    return path


@pytest.fixture
def settings(frames_modelset) -> Settings:
    flags = {"model": str(frames_modelset), "partition_chunks": 3, "cluster.kind": "none"}
    return load_settings(flags=flags | {"cluster.threads": 1})


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream, delimiter="\t", strict=True))


def names_in(fasta: Path) -> list[str]:
    return [line[1:] for line in fasta.read_text().splitlines() if line.startswith(">")]


def test_a_pair_is_called_as_a_record_with_the_chunks_of_both_mates(reads, settings, mates):
    done = run([], reads[0].parent / "out", settings=settings, reads=[reads])
    chunks = done.dataset("chunks").to_table().to_pylist()
    calibration = read_info(Path(settings.model)).calibration_for(500)
    rows = table_of(done.folder / "pairs.tsv")
    assert [row["pair_id"] for row in rows] == [f"m{n}" for n in range(len(mates))]
    assert [(int(r["length_1"]), int(r["length_2"])) for r in rows] == [
        (len(one), len(two)) for one, two in mates
    ]
    assert {row["sample"] for row in rows} == {"gut"}
    for n, row in enumerate(rows):
        scored = [c for c in chunks if c["record_index"] // 2 == n and c["call"] is not None]
        if not scored:
            assert (row["probability"], row["call"]) == ("", "unscored")
            continue
        virus, others = (np.array([c[f"score_{k}"] for c in scored]) for k in ("virus", "others"))
        total = calibration.chunk_evidence(virus, others).sum(keepdims=True)
        evidence = calibration.contig_evidence(total, np.array([len(scored)]))[0]
        assert float(row["probability"]) == pytest.approx(1 / (1 + np.exp(-evidence)), abs=1e-6)
        assert float(row["score"]) == pytest.approx(np.mean((1 + virus - others) / 2), abs=1e-6)
        assert row["call"] == ("virus" if float(row["probability"]) >= 0.5 else "others")
        assert 0 <= float(row["q_value"]) <= 1
    counts = {call: sum(row["call"] == call for row in rows) for call in ("virus", "others")}
    assert done.summary["pairs"] == {**counts, "unscored": 2}
    assert len(table_of(done.folder / "contigs.tsv")) == 2 * len(mates)


def test_without_a_calibration_it_is_by_the_score_of_both(reads, settings, parity_modelset, mates):
    settings = replace(settings, model=str(parity_modelset))
    done = run([], reads[0].parent / "out", settings=settings, reads=[reads])
    rows = table_of(done.folder / "pairs.tsv")
    assert {row["probability"] for row in rows} == {""}
    scored = [row for row in rows if row["score"]]
    assert all((row["call"] == "virus") == (float(row["score"]) >= 0.5) for row in scored)
    viral = [int(row["pair_id"][1:]) for row in rows if row["call"] == "virus"]
    assert 0 < len(viral) < len(scored)
    both = [
        pair for n in viral for pair in zip([h.format(n) for h in HEADS], mates[n], strict=True)
    ]
    assert names_in(done.folder / "virus.fasta") == [name for name, dna in both if dna]
    told = f"Of {len(rows)} pairs of reads {len(viral)} are called virus, by both mates together"
    assert told in done.report().read_text()


def test_genes_of_both_mates_are_weighed_together(reads, settings, genes_modelset, mates):
    settings = replace(settings, model=str(genes_modelset))
    done = run([], reads[0].parent / "out", settings=settings, reads=[reads])
    genes = [
        r for r in done.dataset("predictions").to_table().to_pylist() if r["reading"] == "genes"
    ]
    contigs = table_of(done.folder / "contigs.tsv")
    seen = 0
    for n, row in enumerate(table_of(done.folder / "pairs.tsv")):
        logits = [g["evidence"][0] for g in genes if g["record_index"] // 2 == n]
        both = contigs[2 * n], contigs[2 * n + 1]
        if any(mate["call"] == "unsure" for mate in both):
            assert row["call"] == "unsure"
        if logits:
            seen += all(mate["genes"] != "0" for mate in both)
            expected = 1 / (1 + np.exp(-np.mean(logits)))
            assert float(row["probability"]) == pytest.approx(expected, abs=2e-6)
    assert seen > 2


def test_a_set_of_frames_with_a_contig_model_weighs_frames_of_both(
    reads, settings, parity_modelset, contig_model, tmp_path
):
    from virnuc_dask.modelsets.manifest import ContigModelSpec, write_info

    model = Path(shutil.copytree(parity_modelset, tmp_path / "set"))
    contig_model(1, "frames").save(model / "contig_model.safetensors")
    spec = ContigModelSpec("contig_model.safetensors", called=((1, 0.503),), reliable=0.6)
    write_info(model, replace(read_info(model), contig_model=spec))
    done = run([], tmp_path / "out", settings=replace(settings, model=str(model)), reads=[reads])
    logits: dict[str, list[float]] = {}
    for row in done.dataset("predictions").to_table().to_pylist():
        logit = np.log(row["score_virus"] / row["score_others"])
        logits.setdefault(row["record_id"], []).append(logit)
    for row in table_of(done.folder / "pairs.tsv"):
        if row["probability"]:
            expected = 1 / (1 + np.exp(-np.mean(logits[row["pair_id"]])))
            assert float(row["probability"]) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_pairs_are_whole_wherever_pieces_of_the_record_table_end(size):
    mate = [0, 1, 2, -1, 1, 2, 0]
    columns = [range(7), list("abcdefg"), range(1, 8), [1] * 7, [0.5] * 7]
    columns += [["s"] * 7, [""] * 7, mate]
    table = pa.table(list(map(list, columns)), schema=schemas.RECORDS)
    pieces = (table.slice(at, size) for at in range(0, 7, size))
    rows = [row for piece in as_pairs(pieces) for row in piece.to_pylist()]
    assert [(r["record_index"], r["length_1"], r["length_2"], r["mate"]) for r in rows] == [
        *((0, 1, None, 0), (1, 2, 3, 1), (3, 4, None, -1), (4, 5, 6, 1), (6, 7, None, 0)),
    ]


def test_interleaved_reads_beside_contigs_and_mates_alone(reads, settings, mates, command):
    folder = reads[0].parent
    lines = [f">m{n}/{k}\n{d}\n" for n, pair in enumerate(mates) for k, d in enumerate(pair, 1)]
    (folder / "il.fa").write_text("".join(lines[:-1]))
    way = ("--model", settings.model, "--cluster", "none", "--threads", 1)
    code, _, err = command("run", folder / "il.fa", "--paired", "-o", folder / "out", *way)
    assert (code, "1 read(s) have no mate beside them: each is called alone" in err) == (0, True)
    both = run([], folder / "two", settings=settings, reads=[reads])
    ours, theirs = (table_of(at / "pairs.tsv") for at in (folder / "out", both.folder))
    numbers = ("length_1", "score", "probability", "call")
    assert [[r[k] for k in numbers] for r in ours] == [[r[k] for k in numbers] for r in theirs]
    assert (ours[-1]["pair_id"], ours[-1]["length_2"]) == (f"m{len(mates) - 1}", "")
    code, out, _ = command("run", DEMO, folder / "il.fa", "--no-paired", "--dry-run", "-o", "x")
    assert (code, "pairs" in out) == (0, False)
    code, out, _ = command("run", DEMO, "--reads", *reads, "--dry-run", "-o", folder / "x", *way)
    assert (code, f"({len(mates)} pairs)" in out) == (0, True)
    assert not (folder / "x").exists()
    code, out, _ = command("run", "--reads", *reads, "-o", folder / "cli", *way)
    assert (code, "virus pairs" in out, "pairs.tsv" in out) == (0, True, True)
    code, _, err = command("run", "--reads", reads[0], "-o", folder / "one")
    assert (code, "-o is an option, not a file; two files of mates" in err) == (2, True)


def test_records_of_no_pair_are_in_no_line_and_keep_their_own_call(reads, settings, mates, contigs):
    folder = reads[0].parent
    first = run(contigs, folder / "alone", settings=settings)
    done = run(contigs, folder / "out", settings=settings, reads=[reads])
    assert len(table_of(done.folder / "pairs.tsv")) == len(mates)
    alone = names_in(first.folder / "virus.fasta")
    assert names_in(done.folder / "virus.fasta")[: len(alone)] == alone
    before = (first.folder / "contigs.tsv").read_text().splitlines()
    cut = [line.split("\t")[:6] for line in before]
    after = (done.folder / "contigs.tsv").read_text().splitlines()[: len(before)]
    assert [line.split("\t")[:6] for line in after] == cut
    assert not (first.folder / "pairs.tsv").exists()
    assert "pairs" not in first.summary


def test_every_record_and_chunk_names_its_sample_and_the_published_files_stay(
    reads, settings, contigs
):
    folder = reads[0].parent
    (folder / "list.txt").write_text(f"{contigs}\tsoil\n{reads[0].name}\n")
    done = run("@" + str(folder / "list.txt"), folder / "out", settings=settings)
    records = done.dataset("records").to_table().to_pylist()
    rows = table_of(done.folder / "contigs.tsv")
    assert list(rows[0])[-2:] == ["description", "sample"]
    assert [(r["description"], r["sample"]) for r in rows] == [
        (record["description"], record["sample"]) for record in records
    ]
    assert sorted({row["sample"] for row in rows}) == ["gut_R1", "soil"]
    by_index = {record["record_index"]: record["sample"] for record in records}
    chunks = pq.ParquetFile(done.folder / "chunks.parquet")
    assert all(c["sample"] == by_index[c["record_index"]] for c in chunks.read().to_pylist())
    sample = chunks.metadata.row_group(0).column(chunks.schema_arrow.names.index("sample"))
    assert "RLE_DICTIONARY" in sample.encodings
    once = run([contigs, reads[0]], folder / "plain", settings=settings)
    for name in ("prediction_results.txt", "prediction_results_highestscore.csv", "virus.fasta"):
        assert (done.folder / name).read_bytes() == (once.folder / name).read_bytes()


def test_a_resumed_run_notices_other_names_other_pairs_and_other_ends(reads, settings):
    folder, out = reads[0].parent, reads[0].parent / "out"
    run([], out, settings=settings, reads=[reads])
    again = run([], out, settings=settings, reads=[reads], resume=True)
    assert again.summary["partitions"]["computed"] == 0
    with pytest.raises(PlanChangedError, match="samples or pairs"):
        run(reads, out, settings=settings, resume=True)
    renamed = [shutil.copy(path, folder / path.name.replace("gut", "soil")) for path in reads]
    with pytest.raises(PlanChangedError, match=r"other samples or pairs \("):
        run([], out, settings=settings, reads=[renamed], resume=True)
    with pytest.raises(PlanChangedError, match="input"):
        run([], out, settings=settings, reads=[reads[::-1]], resume=True)

    run(reads, folder / "two", settings=settings)
    one, two = (path.read_text() for path in reads)
    cut = one.index(">", 1)
    reads[0].write_text(one[:cut])
    reads[1].write_text(one[cut:] + two)
    with pytest.raises(PlanChangedError, match="samples or pairs"):
        run(reads, folder / "two", settings=settings, resume=True)


def test_a_run_of_an_earlier_version_is_brought_up_to_date(settings, tmp_path, contigs):
    done = run(contigs, tmp_path / "out", settings=settings)
    folder = RunFolder(done.folder)
    content = read_run_json(folder)
    del content["plan"]["decisions"]["sources"]
    write_run_json(folder, content)
    with pytest.raises(PlanChangedError, match="--resume"):
        predict(done.folder, settings=settings)
    again = run(contigs, tmp_path / "out", settings=settings, resume=True)
    assert again.summary["partitions"]["computed"] == 0
    predict(done.folder, settings=settings)


def test_what_was_expanded_is_read_and_never_replaced(reads, settings, monkeypatch):
    folder = reads[0].parent
    out = run(reads[0], folder / "out", settings=settings).folder
    virus = (out / "virus.fasta").read_bytes()
    (folder / "list.txt").write_text("out/virus.fasta\n")
    (out / "failed.tsv").write_text("../gut_R1.fasta\n")  # a list under a name that is ours
    content = read_run_json(RunFolder(out))
    content["outputs"]["failed.tsv"] = (out / "failed.tsv").stat().st_size
    write_run_json(RunFolder(out), content)
    for given in (out, f"@{folder / 'list.txt'}", f"{out}/v*.fasta", f"@{out / 'failed.tsv'}"):
        with pytest.raises(OutputExistsError, match="is read, and would be lost"):
            run(given, out, settings=settings, force=True)
    with pytest.raises(OutputExistsError, match="is read, and would be lost"):
        run([], out, settings=settings, force=True, reads=[(reads[0], out / "virus.fasta")])
    assert (out / "virus.fasta").read_bytes() == virus


HOSTILE = (
    "tab\tand \x1b[2J\x07 bell",
    '"quote',
    "<script>alert(1)</script>",
    "\u202etxt.exe",
    "=cmd()",
    "λ \u2028 line",
    "x" * 5000,
    "{0} %s [red]",
    "",
)


def test_descriptions_are_data_on_one_line(settings, tmp_path, command):
    dna = next(read_records([str(DEMO)])).dna[:900]
    content = b"".join(f">r{n} {text}\n{dna}\n".encode() for n, text in enumerate(HOSTILE))
    (tmp_path / "in.fa").write_bytes(content + b">last \xff\xfe bytes\n" + dna.encode() + b"\n")
    way = ("--model", settings.model, "--cluster", "none", "--threads", 1, "--verbose")
    code, out, err = command("run", tmp_path / "in.fa", "-o", tmp_path / "out", *way)
    assert (code, "\x1b" in out + err, "\u202e" in out + err) == (0, False, False)
    rows = table_of(tmp_path / "out/contigs.tsv")
    told = [row["description"] for row in rows]
    assert [row["record_id"] for row in rows] == [*(f"r{n}" for n in range(9)), "last"]
    assert all(text.isprintable() and len(text) <= 1000 for text in told)
    assert told[:3] == ["tab and  [2J  bell", '"quote', "<script>alert(1)</script>"]
    assert (told[4], told[6], told[7], told[8]) == ("=cmd()", "x" * 1000, "{0} %s [red]", "")
    assert told[9].endswith("bytes")
    written = names_in(tmp_path / "out/virus.fasta")
    assert set(written) <= {f"{row['record_id']} {row['description']}".rstrip() for row in rows}
    assert len(written) in (0, 10)
    assert len((tmp_path / "out/contigs.tsv").read_text().split("\n")) == 12


def test_bam_is_read_by_a_run_and_nothing_of_it_is_lost(mates, settings, tmp_path, command):
    pysam = pytest.importorskip("pysam", reason="pysam is not installed")
    with pysam.AlignmentFile(tmp_path / "gut.bam", "wb", header={"HD": {"VN": "1.6"}}) as file:
        for n, pair in enumerate(mates):
            for flags, dna in zip((0x4D, 0x8D), pair, strict=True):
                read = pysam.AlignedSegment(file.header)
                read.query_name, read.flag, read.query_sequence = f"m{n}", flags, dna
                file.write(read)
        read.flag = 0x100
        file.write(read)
    way = ("--model", settings.model, "--cluster", "none", "--threads", 1)
    code, _, err = command("run", tmp_path / "gut.bam", "-o", tmp_path / "out", *way)
    assert (code, "1 secondary or supplementary alignment(s) were left out" in err) == (0, True)
    rows = table_of(tmp_path / "out/pairs.tsv")
    assert [(int(r["length_1"]), int(r["length_2"])) for r in rows] == [
        (len(one), len(two)) for one, two in mates
    ]
    assert {row["sample"] for row in rows} == {"gut"}
    counts = json.loads((tmp_path / "out/run.json").read_text())["plan"]["counts"]
    assert (counts["records"], counts["pairs"], counts["left_out"]) == (54, 27, 1)
