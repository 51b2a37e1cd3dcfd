from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from virnuc_dask.errors import BadTableError, LostRowsError
from virnuc_dask.modelsets.calibration import (
    Calibration,
    estimate_prevalence,
    probability,
    q_values,
)
from virnuc_dask.outputs.fields import fields
from virnuc_dask.outputs.results import write_results
from virnuc_dask.sequences.chunks import Chunks
from virnuc_dask.sequences.partitions import write_partitions
from virnuc_dask.sequences.records import Record
from virnuc_dask.stages import calls
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.stages.receipt import Failure
from virnuc_dask.tables import on_disk, parquet, schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import read_table, write_table
from virnuc_dask.tables.plan import Decisions, Plan, fingerprint

CHUNK_LENGTH, PARTITION_CHUNKS = 10, 3
RECORDS = [
    Record(0, "virus", "ACGTTGCAAC" * 5 + "acg"),  # six chunks: partitions 0 and 1
    Record(1, "empty", ""),
    Record(2, "twin", "GGGGGGGGGG" * 2),  # two chunks: partition 2
    Record(3, "twin", "TTTTTTT"),  # one chunk, without a frame: partition 2
    Record(4, "last", "CCCCCCCCCC"),  # one chunk: partition 3
]
# Frames of each partition as (chunk row, score of others, score of virus).
FRAMES = [
    [(0, 0.25, 0.75), (0, 0.5, 0.5), (1, 0.125, 0.875), (2, 0.5, 0.5)],
    [(0, 0.25, 0.75), (1, 0.25, 0.75), (2, 0.75, 0.25)],
    [(0, 0.875, 0.125), (1, 0.75, 0.25)],
    [(0, 0.0, 1.0)],
]


def make_plan(folder: RunFolder, records: list[Record]) -> Plan:
    folder.path.mkdir(exist_ok=True)
    folder.prepare(resume=False, force=False)
    decisions = Decisions("input", CHUNK_LENGTH, PARTITION_CHUNKS, "fp32", "encoders", "modelset")
    counts, partitions = write_partitions(
        *(records, folder, Chunks(CHUNK_LENGTH), PARTITION_CHUNKS),
        lambda: fingerprint("input", CHUNK_LENGTH),
    )
    return Plan(folder, decisions, counts, partitions)


def write_predictions(plan: Plan, frames_of: list[list[tuple[int, float, float]]]) -> None:
    for task, frames in zip(plan.tasks(), frames_of, strict=True):
        chunks = read_table(plan.folder.partition(task.index), task.content)["chunk_id"].to_pylist()
        given = {
            "frame_id": [f"{chunks[row]}F{number}" for number, (row, _, _) in enumerate(frames)],
            "chunk_id": [chunks[row] for row, _, _ in frames],
            "record_id": ["r"] * len(frames),
            "chunk_row": [row for row, _, _ in frames],
            "label": ["virus" if virus > others else "others" for _, others, virus in frames],
            "score_others": [others for _, others, _ in frames],
            "score_virus": [virus for *_, virus in frames],
        }
        table = schemas.filled(schemas.PREDICTIONS, given, len(frames))
        write_table(plan.folder.predictions(task.index), table, task.predictions)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A run of which all is computed, and no result file written."""
    plan = make_plan(RunFolder(tmp_path / "out"), RECORDS)
    write_predictions(plan, FRAMES)
    return plan


def rows_of(plan: Plan, name: str) -> list[dict[str, str]]:
    header, *rows = lines_of(plan, name)
    return [dict(zip(header, row, strict=True)) for row in rows]


def lines_of(plan: Plan, name: str) -> list[list[str]]:
    text = plan.folder.output(name).read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [line.split("\t") for line in text.splitlines()]


def test_what_came_out_is_counted_and_how_contigs_were_called_is_told(plan):
    totals = write_results(plan, [])
    assert (totals.chunks, totals.chunks_scored, totals.chunks_virus) == (10, 9, 6)
    assert totals.frames == sum(map(len, FRAMES))
    assert totals.contigs == {"virus": 2, "virus_region": 0, "others": 1, "unscored": 2}
    assert (totals.called_by, totals.prevalence) == ("score >= 0.5", None)


# One chunk says 4 at most, several say what they say together.
CALIBRATION = Calibration(
    ((-4.0, -4.0), (4.0, 4.0)), 0.0, 0.0, ((-8.0, -8.0), (8.0, 8.0)), "by hand"
)


@pytest.mark.parametrize("calibrated", [False, True])
def test_the_surest_records_are_named_first_as_the_table_has_them(plan, calibrated):
    totals = write_results(plan, [], CallRule(CALIBRATION if calibrated else None))
    names = [contig["record_id"] for contig in totals.highest]
    assert names == (["virus", "last", "twin"] if calibrated else ["last", "virus", "twin"])
    rows = {row["record_id"]: row for row in reversed(rows_of(plan, "contigs.tsv"))}
    keys = ["record_id", "score", *(["probability"] if calibrated else []), "call"]
    for contig in totals.highest:
        assert list(contig) == keys
        shown = {k: v if isinstance(v, str) else f"{v:.6f}" for k, v in contig.items()}
        assert shown.items() <= rows[contig["record_id"]].items()


def test_the_viral_records_follow_the_false_discovery_rate(plan):
    strict = write_results(plan, [], CallRule(CALIBRATION, 1e-6))
    assert strict.contigs == {"virus": 0, "virus_region": 0, "others": 3, "unscored": 2}
    assert plan.folder.output("virus.fasta").read_text() == ""
    lax = write_results(plan, [], CallRule(CALIBRATION, 0.99))
    assert lax.contigs == {"virus": 3, "virus_region": 0, "others": 0, "unscored": 2}
    assert plan.folder.output("virus.fasta").read_text().count(">") == 3
    assert lax.called_by == "q_value <= 0.99"
    assert (lax.chunks_virus, lax.prevalence) == (strict.chunks_virus, strict.prevalence)


def test_every_chunk_stands_in_the_chunk_table(plan):
    write_results(plan, [])
    rows = read_table(plan.folder.output("chunks.parquet"), plan.records_fingerprint).to_pylist()
    ids = [f"virus_chunk_{n}" for n in range(1, 7)]
    ids += ["twin_chunk_1", "twin_chunk_2", "twin_chunk_1", "last_chunk_1"]
    assert [row["chunk_id"] for row in rows] == ids
    assert [row["record_index"] for row in rows] == [0] * 6 + [2, 2, 3, 4]
    assert [row["reason"] for row in rows if row["call"] is None] == ["no_open_frame"]


def test_every_record_stands_in_the_contig_table(plan):
    write_results(plan, [])
    _, *rows = lines_of(plan, "contigs.tsv")
    assert [(row[0], row[1], row[2], row[3], row[7]) for row in rows] == [
        ("virus", "53", "6", "6", "virus"),
        ("empty", "0", "0", "0", "unscored"),
        ("twin", "20", "2", "2", "others"),
        ("twin", "7", "1", "0", "unscored"),
        ("last", "10", "1", "1", "virus"),
    ]
    fasta = plan.folder.output("virus.fasta").read_text()
    assert fasta == f">virus\n{RECORDS[0].dna}\n>last\n{RECORDS[4].dna}\n"


def test_an_input_without_records_gives_files_with_headers_only(tmp_path):
    plan = make_plan(RunFolder(tmp_path / "out"), [])
    totals = write_results(plan, [])
    assert (totals.chunks, totals.frames) == (0, 0)
    assert [len(lines_of(plan, name)) for name in ("contigs.tsv", "virus.fasta")] == [1, 0]
    for name in ("prediction_results.txt", "prediction_results_highestscore.csv"):
        assert len(lines_of(plan, name)) == 1
    assert len(read_table(plan.folder.output("chunks.parquet"), plan.records_fingerprint)) == 0


def test_the_chunks_of_failed_partitions_are_listed_with_the_reason(plan):
    for index in (0, 2):
        plan.folder.predictions(index).unlink()
    failures = [Failure(2, "disk\tfull\non node 3", (0, 3)), Failure(0, "out of memory", (0, 3))]
    totals = write_results(plan, failures)
    assert lines_of(plan, "failed.tsv") == [
        ["chunk_id", "record_id", "partition", "reason"],
        *([f"virus_chunk_{n}", "virus", "0", "out of memory"] for n in (1, 2, 3)),
        ["twin_chunk_1", "twin", "2", "disk full on node 3"],
        ["twin_chunk_2", "twin", "2", "disk full on node 3"],
        ["twin_chunk_1", "twin", "2", "disk full on node 3"],
    ]
    assert (totals.chunks, totals.chunks_scored) == (10, 4)
    assert totals.contigs == {"virus": 2, "virus_region": 0, "others": 0, "unscored": 3}
    chunks = read_table(plan.folder.output("chunks.parquet"), plan.records_fingerprint)
    assert chunks["reason"].to_pylist().count("failed") == 6


def test_a_failed_partition_that_has_old_predictions_is_left_out_until_it_is_computed(plan):
    write_results(plan, [Failure(3, "no", (0, 1))])
    frames = [row["Sequence_ID"] for row in rows_of(plan, "prediction_results.txt")]
    assert not any(name.startswith("last") for name in frames)
    assert plan.folder.output("failed.tsv").exists()
    write_results(plan, [])
    assert not plan.folder.output("failed.tsv").exists()


@pytest.mark.parametrize("table", ["partition", "predictions"])
def test_a_missing_table_is_an_error_naming_it_and_writes_nothing(plan, table):
    path = getattr(plan.folder, table)(1)
    path.unlink()
    with pytest.raises(BadTableError, match=str(path)):
        write_results(plan, [])
    assert not plan.folder.output("prediction_results.txt").exists()
    assert not plan.folder.output("chunks.parquet").exists()


@pytest.mark.parametrize(("count", "said"), [("chunks", "11 chunks"), ("records", "6 records")])
def test_a_chunk_or_a_record_that_does_not_come_out_is_an_error(plan, count, said):
    counts = replace(plan.counts, **{count: getattr(plan.counts, count) + 1})
    with pytest.raises(LostRowsError, match=said):
        write_results(replace(plan, counts=counts), [])


def draw_run(folder: RunFolder, seed: int) -> Plan:
    """Records whose ids repeat, some of them empty, and chunks of up to three frames."""
    rng = np.random.default_rng(seed)
    ids = rng.choice(["a", "a_chunk_1", "b", 'c"d', "é"], 300).tolist()
    sizes = np.where(rng.random(300) < 0.1, 0, rng.integers(1, 90, 300)).tolist()
    records = [Record(n, ids[n], ("ACGTA" * 18)[: sizes[n]]) for n in range(300)]
    plan = make_plan(folder, records)
    frames_of = []
    for part in plan.partitions:
        rows = np.repeat(np.arange(part.chunks), rng.integers(0, 4, part.chunks)).tolist()
        virus = rng.choice([0.0, 0.3, 0.5, 1.0, *rng.random(9)], len(rows)).tolist()
        frames_of.append([(row, 1 - score, score) for row, score in zip(rows, virus, strict=True)])
    write_predictions(plan, frames_of)
    return plan


def in_memory(plan: Plan, rule: CallRule) -> tuple[list[list[str]], list[int]]:
    """Score, probability, q-value and call of each record, and the most viral; all at once."""
    chunks = read_table(plan.folder.output("chunks.parquet"), plan.records_fingerprint)
    chunks = chunks.filter(chunks["call"].is_valid())
    record, virus, others = (
        chunks[name].to_numpy() for name in ("record_index", "score_virus", "score_others")
    )
    virus, others = virus.astype(float), others.astype(float)
    total, evidence = np.zeros(300), np.zeros(300)
    np.add.at(total, record, (1 + virus - others) / 2)
    np.add.at(evidence, record, rule.calibration.chunk_evidence(virus, others))
    counts = np.bincount(record, minlength=300)
    score = np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
    of_record = rule.calibration.contig_evidence(evidence, counts)
    q_value = q_values(of_record, estimate_prevalence(of_record))
    is_virus = probability(of_record) >= 0.5 if rule.fdr is None else q_value <= rule.fdr
    call = np.where(counts > 0, np.where(is_virus, "virus", "others"), "unscored")
    order = np.lexsort((-score, -evidence, -of_record))
    numbers = (score, probability(of_record), q_value)
    texts = [["" if np.isnan(n) else f"{n:.6f}" for n in column] for column in numbers]
    rows = [list(row) for row in zip(*texts, call.tolist(), strict=True)]
    return rows, [row for row in order.tolist() if counts[row]][:5]


@pytest.mark.parametrize("fdr", [None, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_sorted_and_joined_on_disk_is_as_in_memory(tmp_path, monkeypatch, seed, fdr):
    monkeypatch.setattr(on_disk, "RUN_BYTES", 500)
    for module, rows in ((on_disk, 7), (calls, 11), (parquet, 13)):
        monkeypatch.setattr(module, "ROWS", rows)
    plan, rule = draw_run(RunFolder(tmp_path / "out"), seed), CallRule(CALIBRATION, fdr)
    totals = write_results(plan, [], rule)
    _, *written = (line.split("\t") for line in text_of(plan, "contigs.tsv").splitlines())
    rows, highest = in_memory(plan, rule)
    assert [row[4:8] for row in written] == rows
    assert [shown["record_id"] for shown in totals.highest] == [
        written[row][0].strip('"').replace('""', '"') for row in highest
    ]
    chunks = read_table(plan.folder.output("chunks.parquet"), plan.records_fingerprint).to_pylist()
    scored = sorted(
        (row for row in chunks if row["call"]), key=lambda row: row["chunk_id"].encode()
    )
    lines = [f"{fields([row['chunk_id']])[0]}\t{row['call'] == 'virus'}" for row in scored]
    assert text_of(plan, "prediction_results_highestscore.csv").splitlines()[1:] == lines
    viral = [record[0] for record in written if record[7] == "virus"]
    ids = [line[1:] for line in text_of(plan, "virus.fasta").splitlines() if line[0] == ">"]
    assert fields(ids) == viral


def text_of(plan: Plan, name: str) -> str:
    return plan.folder.output(name).read_text(encoding="utf-8")


def test_what_is_sorted_leaves_nothing_in_the_folder_on_an_error(plan, monkeypatch):
    before = {path.name for path in plan.folder.path.rglob("*")}
    monkeypatch.setattr(on_disk, "RUN_BYTES", 1)
    plan.folder.predictions(3).unlink()
    with pytest.raises(BadTableError):
        write_results(plan, [])
    assert {path.name for path in plan.folder.path.rglob("*")} == before


MIXED = 'a;b=c%d,"é"'  # an id with what GFF3 escapes, and with what is quoted in tables


@pytest.fixture
def mixed(tmp_path: Path) -> Plan:
    """A record with a viral stretch, one that is viral from end to end, and one that is not."""
    sides = {MIXED: (60, 20, 61), "phage": (0, 30, 0), "host": (50, 0, 0), "edge": (0, 9, 31)}
    bases = np.random.default_rng(2).choice(list("ACGT"), 2000).tolist()
    records = [
        Record(n, name, "".join(bases[n : n + CHUNK_LENGTH * sum(of)]))
        for n, (name, of) in enumerate(sides.items())
    ]
    plan = make_plan(RunFolder(tmp_path / "mixed"), records)
    virus = [
        s
        for left, inner, right in sides.values()
        for s in [*[0.02] * left, *[0.98] * inner, *[0.02] * right]
    ]
    firsts = range(0, len(virus), PARTITION_CHUNKS)
    parts = [virus[first : first + PARTITION_CHUNKS] for first in firsts]
    write_predictions(plan, [[(row, 1 - s, s) for row, s in enumerate(part)] for part in parts])
    return plan


def test_a_record_with_a_sure_region_is_called_so_and_its_region_alone_is_in_the_fasta(mixed):
    totals = write_results(mixed, [], formats=["genomad"])
    rows = {row["length_nt"]: row for row in rows_of(mixed, "contigs.tsv")}
    assert {size: row["call"] for size, row in rows.items()} == {
        "1410": "virus_region",
        "300": "virus",
        "500": "others",
        "400": "virus_region",
    }
    assert totals.contigs["virus_region"] == 2
    assert [row["chunks_virus"] for row in rows.values()] == ["20", "30", "0", "9"]
    shares = [float(row["virus_fraction"]) for row in rows.values()]
    assert shares == pytest.approx([20 / 141, 1, 0, 9 / 40], abs=1e-6)
    fasta = text_of(mixed, "virus_regions.fasta").splitlines()
    assert fasta[::4][0] == f">{MIXED}|provirus_601_800"
    dna = whole_records(mixed)
    assert "".join(fasta[1:4]) == dna[MIXED][600:800]
    assert fasta[4:] == [">edge|provirus_1_90", dna["edge"][:80], dna["edge"][80:90]]
    assert text_of(mixed, "virus.fasta").startswith(">phage\n")
    summary = rows_of(mixed, "virus_summary.tsv")
    assert [(row["length"], row["coordinates"], row["n_genes"]) for row in summary] == [
        ("200", "601-800", "NA"),
        ("300", "NA", "NA"),
        ("90", "1-90", "NA"),
    ]


def whole_records(plan: Plan) -> dict[str, str]:
    """Records by id, from partitions whose chunks do not overlap."""
    dna: dict[str, str] = {}
    for part in plan.partitions:
        for row in read_table(plan.folder.partition(part.index), part.content).to_pylist():
            dna[row["record_id"]] = dna.get(row["record_id"], "") + row["sequence"]
    return dna


def test_regions_are_the_same_wherever_pieces_of_tables_end(mixed, monkeypatch):
    names = ["contigs.tsv", *(f"virus_regions.{kind}" for kind in ("tsv", "bed", "gff3", "fasta"))]
    write_results(mixed, [])
    whole = [text_of(mixed, name) for name in names]
    for module in (on_disk, calls, parquet):
        monkeypatch.setattr(module, "ROWS", 1)
    write_results(mixed, [])
    assert [text_of(mixed, name) for name in names] == whole


def test_regions_stand_in_a_table_in_bed_and_in_gff3(mixed):
    write_results(mixed, [])
    rows = rows_of(mixed, "virus_regions.tsv")
    assert list(rows[0]) == schemas.regions("chunks").names
    assert [(row["start"], row["end"], row["chunks"]) for row in rows] == [
        ("600", "800", "20"),
        ("0", "300", "30"),
        ("0", "90", "9"),
    ]
    bed = lines_of(mixed, "virus_regions.bed")
    for row, line in zip(rows, bed, strict=True):
        name = f"{line[0]}|provirus_{int(row['start']) + 1}_{row['end']}"
        score = str(round(1000 * float(row["score"])))
        assert line[1:] == [row["start"], row["end"], name, score, "."]
    assert bed[0][0] == MIXED
    first, *gff3 = lines_of(mixed, "virus_regions.gff3")
    assert first == ["##gff-version 3"]
    escaped = "a%3Bb%3Dc%25d%2C%22%C3%A9%22"
    assert gff3[0][:8] == [
        *(escaped, "virnuc_dask", "viral_sequence", "601", "800"),
        *(rows[0]["score"], ".", "."),
    ]
    told = f"probability={rows[0]['probability']};q_value={rows[0]['q_value']}"
    assert gff3[0][8] == f"ID={escaped}|provirus_601_800;{told}"


def test_a_regions_q_value_is_the_mean_doubt_of_those_that_are_no_less_probable(mixed):
    write_results(mixed, [])
    rows = rows_of(mixed, "virus_regions.tsv")
    chance = sorted((float(row["probability"]) for row in rows), reverse=True)
    for row in rows:
        above = [1 - p for p in chance if p >= float(row["probability"])]
        assert float(row["q_value"]) == pytest.approx(np.mean(above), abs=2e-6)


@pytest.mark.parametrize("rule", [CallRule(), CallRule(CALIBRATION)], ids=["plain", "calibrated"])
def test_contigs_in_parquet_are_those_of_the_table_typed(mixed, rule):
    write_results(mixed, [], rule)
    table = read_table(mixed.folder.output("contigs.parquet"), mixed.records_fingerprint)
    assert table.schema == schemas.CONTIGS
    header, *rows = lines_of(mixed, "contigs.tsv")
    assert header == table.column_names
    for typed, row in zip(table.to_pylist(), rows, strict=True):
        shown = [f"{v:.6f}" if isinstance(v, float) else v for v in typed.values()]
        assert ["" if v is None else str(v) for v in shown[1:]] == row[1:]
        assert fields([typed["record_id"]]) == [row[0]]
