from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
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
        records, folder, CHUNK_LENGTH, PARTITION_CHUNKS, lambda: fingerprint("input", CHUNK_LENGTH)
    )
    return Plan(folder, decisions, counts, partitions)


def write_predictions(plan: Plan, frames_of: list[list[tuple[int, float, float]]]) -> None:
    for task, frames in zip(plan.tasks(), frames_of, strict=True):
        chunks = read_table(plan.folder.partition(task.index), task.content)["chunk_id"].to_pylist()
        columns = [
            [f"{chunks[row]}F{number}" for number, (row, _, _) in enumerate(frames)],
            [chunks[row] for row, _, _ in frames],
            ["r"] * len(frames),
            [row for row, _, _ in frames],
            ["virus" if virus > others else "others" for _, others, virus in frames],
            [others for _, others, _ in frames],
            [virus for *_, virus in frames],
        ]
        table = pa.table(columns, schema=schemas.PREDICTIONS)
        write_table(plan.folder.predictions(task.index), table, task.predictions)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A run of which all is computed, and no result file written."""
    plan = make_plan(RunFolder(tmp_path / "out"), RECORDS)
    write_predictions(plan, FRAMES)
    return plan


def lines_of(plan: Plan, name: str) -> list[list[str]]:
    text = plan.folder.output(name).read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [line.split("\t") for line in text.splitlines()]


def test_what_came_out_is_counted(plan):
    totals = write_results(plan, [])
    assert (totals.chunks, totals.chunks_scored, totals.chunks_virus) == (10, 9, 6)
    assert totals.frames == sum(map(len, FRAMES))
    assert totals.contigs == {"virus": 2, "others": 1, "unscored": 2}


def test_the_records_with_the_highest_scores_are_named_highest_first(plan):
    highest = write_results(plan, []).highest
    shown = {contig["record_id"]: contig for contig in highest}
    assert set(shown) == {"virus", "last", "twin"}, "records without a score are none of them"
    assert [c["score"] for c in highest] == sorted((c["score"] for c in highest), reverse=True)
    rows = {row[0]: row for row in reversed(lines_of(plan, "contigs.tsv")[1:])}
    assert all(f"{c['score']:.6f}" == rows[c["record_id"]][4] for c in highest)
    assert all(c["call"] == rows[c["record_id"]][-1] for c in highest)


def test_how_contigs_were_called_is_told(plan):
    totals = write_results(plan, [])
    assert (totals.called_by, totals.prevalence) == ("score >= 0.5", None)
    assert all("probability" not in contig for contig in totals.highest)


# One chunk says 4 at most, several say what they say together.
CALIBRATION = Calibration(
    ((-4.0, -4.0), (4.0, 4.0)), 0.0, 0.0, ((-8.0, -8.0), (8.0, 8.0)), "by hand"
)


def test_with_a_calibration_the_surest_records_are_named_first(plan):
    totals = write_results(plan, [], CallRule(CALIBRATION))
    shown = [(c["record_id"], c["probability"], c["call"]) for c in totals.highest]
    assert [name for name, *_ in shown] == ["virus", "last", "twin"]
    rows = {row[0]: row for row in reversed(lines_of(plan, "contigs.tsv")[1:])}
    assert all((f"{p:.6f}", call) == (rows[name][5], rows[name][7]) for name, p, call in shown)
    assert 0 < totals.prevalence < 1
    assert totals.called_by == "probability >= 0.5"


def test_the_viral_records_follow_the_false_discovery_rate(plan):
    strict = write_results(plan, [], CallRule(CALIBRATION, 1e-6))
    assert strict.contigs == {"virus": 0, "others": 3, "unscored": 2}
    assert plan.folder.output("virus.fasta").read_text() == ""
    lax = write_results(plan, [], CallRule(CALIBRATION, 0.99))
    assert lax.contigs == {"virus": 3, "others": 0, "unscored": 2}
    assert plan.folder.output("virus.fasta").read_text().count(">") == 3
    assert lax.called_by == "q_value <= 0.99"
    assert (lax.chunks_virus, lax.prevalence) == (strict.chunks_virus, strict.prevalence)


def test_every_frame_stands_in_the_first_published_file_in_order(plan):
    write_results(plan, [])
    header, *rows = lines_of(plan, "prediction_results.txt")
    assert header == ["Sequence_ID", "Prediction", "score1", "score2"]
    flat = [frame for frames in FRAMES for frame in frames]
    assert [tuple(map(float, row[2:])) for row in rows] == [frame[1:] for frame in flat]
    assert rows[0] == ["virus_chunk_1F0", "virus", "0.25", "0.75"]
    assert rows[1] == ["virus_chunk_1F1", "others", "0.5", "0.5"]


def test_every_chunk_with_a_frame_stands_in_the_second_published_file_sorted(plan):
    write_results(plan, [])
    header, *rows = lines_of(plan, "prediction_results_highestscore.csv")
    assert header == ["Modified_ID", "Is_Virus"]
    assert rows == [
        ["last_chunk_1", "True"],
        ["twin_chunk_1", "False"],
        ["twin_chunk_2", "False"],
        *([f"virus_chunk_{n}", "True"] for n in range(1, 6)),
        ["virus_chunk_6", "False"],
    ]


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
    assert [(row[0], row[1], row[2], row[3], row[-1]) for row in rows] == [
        ("virus", "53", "6", "6", "virus"),
        ("empty", "0", "0", "0", "unscored"),
        ("twin", "20", "2", "2", "others"),
        ("twin", "7", "1", "0", "unscored"),
        ("last", "10", "1", "1", "virus"),
    ]


def test_the_records_called_virus_come_out_as_they_went_in(plan):
    write_results(plan, [])
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
    assert totals.contigs == {"virus": 2, "others": 0, "unscored": 3}
    chunks = read_table(plan.folder.output("chunks.parquet"), plan.records_fingerprint)
    assert chunks["reason"].to_pylist().count("failed") == 6


def test_a_failed_partition_that_has_old_predictions_is_left_out(plan):
    write_results(plan, [Failure(3, "no", (0, 1))])
    frames = [row[0] for row in lines_of(plan, "prediction_results.txt")]
    assert not any(name.startswith("last") for name in frames)


def test_the_list_of_failures_goes_when_nothing_failed(plan):
    write_results(plan, [Failure(3, "no", (0, 1))])
    assert plan.folder.output("failed.tsv").exists()
    write_results(plan, [])
    assert not plan.folder.output("failed.tsv").exists()


def test_writing_again_gives_the_same_bytes(plan):
    def contents() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in plan.folder.path.iterdir() if p.is_file()}

    write_results(plan, [])
    first = contents()
    write_results(plan, [])
    assert contents() == first
    assert len(first) == 5


@pytest.mark.parametrize("table", ["partition", "predictions"])
def test_a_missing_table_is_an_error_naming_it_and_writes_nothing(plan, table):
    path = getattr(plan.folder, table)(1)
    path.unlink()
    with pytest.raises(BadTableError, match=str(path)):
        write_results(plan, [])
    assert not plan.folder.output("prediction_results.txt").exists()
    assert not plan.folder.output("chunks.parquet").exists()


def test_predictions_from_another_plan_are_refused(plan):
    path = plan.folder.predictions(1)
    path.write_bytes(plan.folder.predictions(2).read_bytes())
    with pytest.raises(BadTableError, match=f"{path}: was made from other input"):
        write_results(plan, [])


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
