from dataclasses import replace
from pathlib import Path

import pytest

from virnuc_dask.errors import BadTableError, LostRowsError
from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.outputs.results import write_results
from virnuc_dask.sequences.partitions import write_partitions
from virnuc_dask.sequences.records import Record
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.stages.receipt import Failure
from virnuc_dask.tables import schemas
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


def write_predictions(plan: Plan) -> None:
    for task, frames in zip(plan.tasks(), FRAMES, strict=True):
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
    write_predictions(plan)
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
    assert totals.contigs == {"virus": 2, "others": 1, "unscored": 2}
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
    assert strict.contigs == {"virus": 0, "others": 3, "unscored": 2}
    assert plan.folder.output("virus.fasta").read_text() == ""
    lax = write_results(plan, [], CallRule(CALIBRATION, 0.99))
    assert lax.contigs == {"virus": 3, "others": 0, "unscored": 2}
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
    assert [(row[0], row[1], row[2], row[3], row[-1]) for row in rows] == [
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
    assert totals.contigs == {"virus": 2, "others": 0, "unscored": 3}
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
