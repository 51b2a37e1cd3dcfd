import random
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_dask.sequences.chunks import Pieces
from virnuc_dask.sequences.frames import find_frames
from virnuc_dask.sequences.genes import CALL, Genes, genes_of
from virnuc_dask.stages.readings import Readings, find_readings
from virnuc_dask.tables import schemas

LONGEST = 24  # of a gene


class RunsOfC:
    """Takes every run of C for a gene: what it finds does not depend on what is around it."""

    def find(self, sequences: Sequence[str], threads: int = 1) -> Genes:
        self.asked = list(sequences)
        calls = [np.array([*self._rows(dna)], CALL) for dna in sequences]
        places = [SimpleNamespace(sequence=row, first=0) for row in range(len(sequences))]
        return genes_of(sequences, places, calls)

    def _rows(self, dna: str):
        place = 0
        for part in dna.replace("C", " C").replace("C ", "C").split(" "):
            run = len(part) - len(part.lstrip("C"))
            if run >= 3:
                what = (1, False, False, 0, True, 11, 4, 0.5, *[1.5] * 5)
                yield (place, place + run // 3 * 3, *what)
            place += len(part)


def info_of(piece_nt: int, overlap_nt: int, shortest_nt: int = 0) -> SimpleNamespace:
    genes = SimpleNamespace(piece_nt=piece_nt, overlap_nt=overlap_nt, shortest_nt=shortest_nt)
    return SimpleNamespace(genes=genes, chunk_lengths=(30, 20))


def pieces_of(records: Sequence[str], cut: Pieces) -> pa.Table:
    """Rows of `schemas.PARTITION`."""
    rows = []
    for index, dna in enumerate(records):
        steps = np.arange(cut.count(len(dna)))
        starts, ends = cut.spans(np.full_like(steps, len(dna)), steps)
        for step, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True), 1):
            id_, sequence = f"r{index}", dna[start:end]
            rows.append((f"{id_}_chunk_{step}", id_, index, step, start, end, sequence))
    columns = list(zip(*rows, strict=True)) or [[] for _ in schemas.PARTITION]
    return pa.table([list(column) for column in columns], schema=schemas.PARTITION)


def read(records: Sequence[str], info: SimpleNamespace) -> Readings:
    cut = Pieces(info.genes.piece_nt, info.genes.overlap_nt, info.genes.shortest_nt)
    return find_readings(pieces_of(records, cut), info, RunsOfC(), 1)


def gene_like(seed: int, length: int) -> str:
    """DNA in which genes of at most `LONGEST` nt stand apart."""
    draw, dna = random.Random(seed), ""
    while len(dna) < length:
        dna += "".join(draw.choices("AGT", k=draw.randint(1, 40)))
        dna += "C" * 3 * draw.randint(0, LONGEST // 3)
    return dna[:length]


def genes_in(found: Readings) -> list[tuple[str, int, int]]:
    rows = (row for row in found.names.to_pylist() if row["reading"] == "genes")
    return [(row["record_id"], row["start"], row["end"]) for row in rows]


@settings(max_examples=60)
@given(
    st.integers(0, 1 << 20),
    st.lists(st.integers(0, 700), min_size=1, max_size=4),
    st.integers(2 * LONGEST, 200),
)
def test_every_gene_is_one_row_however_records_are_cut(seed, lengths, stride):
    records = [gene_like(seed + place, length) for place, length in enumerate(lengths)]
    overlap = 2 * LONGEST
    cut = read(records, info_of(stride + overlap, overlap))
    whole = read(records, info_of(10_000, overlap))
    assert genes_in(cut) == genes_in(whole)


def test_a_row_says_where_its_gene_lies_in_the_record():
    records = ["AAAA" + "C" * 6 + "A" * 200 + "C" * 9 + "A" * 30]
    found = read(records, info_of(150, 50))
    genes = [row for row in found.names.to_pylist() if row["reading"] == "genes"]
    assert [row["frame_id"] for row in genes] == ["r0_gene_5_10_+", "r0_gene_211_219_+"]
    assert [(row["start"], row["end"]) for row in genes] == [(4, 10), (210, 219)]
    assert [row["chunk_id"] for row in genes] == ["r0_chunk_1", "r0_chunk_2"]
    assert [records[0][row["start"] : row["end"]] for row in genes] == found.dna[:1] + found.dna[
        -1:
    ]
    first = genes[0]
    assert (first["record_index"], first["chunk_row"], first["strand"]) == (0, 0, "+")
    assert (first["start_type"], first["rbs"], first["model"]) == ("ATG", True, 4)
    assert (first["confidence"], first["type_score"]) == (0.5, 1.5)


def test_a_piece_without_a_gene_goes_by_the_frames_of_its_core():
    dna = "CCC" + "AAG" * 60 + "A" * 17
    found = read([dna], info_of(100, 20))
    rows = found.names.to_pylist()
    assert [row["reading"] for row in rows][:2] == ["genes", "frames"]
    frames = rows[1:]
    spans = sorted({(row["start"], row["end"]) for row in frames})
    assert spans[0][0] == 90  # where the first piece's core ends
    assert spans[-1][1] == len(dna)
    assert all(end - start <= 30 for start, end in spans)
    expected = [
        (f"r0_{start + 1}_{end}{frame.suffix}", frame.dna, frame.peptide)
        for start, end in spans
        for frame in find_frames([dna[start:end]])[0]
    ]
    ours = [
        (row["frame_id"], *texts)
        for row, *texts in zip(rows, found.dna, found.peptides, strict=True)
    ]
    assert ours[1:] == expected
    assert {row["start_type"] for row in frames} == {"edge"}
    strands = {(row["frame_id"][-2], row["strand"]) for row in frames}
    assert strands == {("F", "+"), ("R", "-")}
    assert not any(row["rbs"] or row["partial_left"] or row["model"] for row in frames)
    assert all(row["coding_score"] == row["confidence"] == 0 for row in frames)


def test_a_record_that_is_too_short_is_not_searched():
    caller, info = RunsOfC(), info_of(100, 20, 50)
    cut = Pieces(100, 20, 50)
    records = ["C" * 49, "C" * 50, "A" * 30 + "C" * 80]  # the last one's second piece has 30 nt
    found = find_readings(pieces_of(records, cut), info, caller, 1)
    assert caller.asked == ["C" * 50, ("A" * 30 + "C" * 80)[:100], "C" * 30]
    readings = {row["chunk_id"]: row["reading"] for row in found.names.to_pylist()}
    assert [readings[f"r{record}_chunk_1"] for record in range(3)] == ["frames", "genes", "genes"]


def test_rows_are_by_piece_and_start_with_their_own_texts():
    records = [gene_like(seed, 500) for seed in range(3)] + ["AAG" * 40]
    found = read(records, info_of(100, 2 * LONGEST))
    rows = found.names.to_pylist()
    places = [(row["chunk_row"], row["start"]) for row in rows]
    assert places == sorted(places)
    assert {row["reading"] for row in rows} == {"genes", "frames"}
    for row, dna, peptide in zip(rows, found.dna, found.peptides, strict=True):
        if row["reading"] == "genes":
            assert dna == records[row["record_index"]][row["start"] : row["end"]]
            assert len(peptide) == len(dna) // 3 - 1
