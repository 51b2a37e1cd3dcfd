"""BAM and CRAM: each read once, as the machine read it."""

import gzip
import sys
from collections import Counter
from pathlib import Path

import pytest
import xxhash

from virnuc_dask.errors import BadInputError
from virnuc_dask.sequences.alignments import is_alignments
from virnuc_dask.sequences.records import hash_inputs, read_records
from virnuc_dask.tables.inputs import Source

pysam = pytest.importorskip("pysam", reason="pysam is not installed")

REFERENCE = "ACGTTGCAACGGATCCATTGCAGTCCATGA" * 40
HEADER = {"HD": {"VN": "1.6"}, "SQ": [{"SN": "ref", "LN": len(REFERENCE)}]}
PAIRED, REVERSE, ONE, TWO, SECONDARY, SUPPLEMENTARY = 0x1, 0x10, 0x40, 0x80, 0x100, 0x800
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def write(path: Path, reads: list[tuple[str, int, int]], **how: object) -> str:
    """Write reads of 20 nt: name, flags, place on the reference; below 0 it is not aligned."""
    mode = "wc" if path.suffix == ".cram" else "wb"
    with pysam.AlignmentFile(path, mode, header=HEADER, **how) as file:
        for name, flags, place in reads:
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.flag = name, flags | (0x4 if place < 0 else 0)
            read.query_sequence = REFERENCE[abs(place) :][:20]
            if place >= 0:
                read.reference_id, read.reference_start, read.cigarstring = 0, place, "20M"
            file.write(read)
    return str(path)


def ids_of(*inputs: str | Source) -> list[tuple[str, int]]:
    return [(record.id, record.origin.mate) for record in read_records(inputs)]


READS = [
    ("a", PAIRED | ONE, 7),
    ("a", PAIRED | TWO | REVERSE, 90),
    ("a", PAIRED | TWO | SUPPLEMENTARY, 3),
    ("b", ONE, -5),  # not paired: the other flags mean nothing
    ("b", SECONDARY, 5),
    ("c", PAIRED | ONE, 8),
    ("d", REVERSE, 9),
]


def test_primary_reads_are_records_turned_back_and_all_others_are_counted(tmp_path):
    path, left_out = write(tmp_path / "x.bam", READS), Counter()
    records = list(read_records([path], left_out=left_out))
    assert [(record.id, record.origin.mate) for record in records] == [
        *(("a/1", 1), ("a/2", 2), ("b", 0), ("c/1", -1), ("d", 0)),
    ]
    turned = REFERENCE[90:110][::-1].translate(COMPLEMENT)
    assert [record.dna for record in records[:2]] == [REFERENCE[7:27], turned]
    assert left_out == {"secondary": 1, "supplementary": 1}
    assert len(records) + left_out.total() == len(READS)
    assert ids_of(Source((path,), "x", paired=False))[1] == ("a/2", 0)


@pytest.mark.parametrize("together", [True, False])
def test_mates_of_a_file_sorted_by_place_are_brought_together(tmp_path, together):
    reads = [(f"r{n}", PAIRED | mate, place) for n in range(40) for mate, place in
             ((ONE, n * 7), (TWO, 1000 - n * 9))]  # fmt: skip
    path = str(tmp_path / "sorted.bam")
    pysam.sort("-o", path, write(tmp_path / "x.bam", reads))
    found = ids_of(Source((path,), "x", paired=None if together else False))
    assert Counter(name for name, _ in found) == Counter(
        f"{name}/{1 if flags & ONE else 2}" for name, flags, _ in reads
    )
    assert {mate for _, mate in found} == ({1, 2} if together else {0})
    assert [name[:-2] for name, _ in found[::2]] == [name[:-2] for name, _ in found[1::2]] or (
        not together
    )


def test_the_digest_is_that_of_the_file(tmp_path):
    path, reading, hashing = write(tmp_path / "x.bam", READS), xxhash.xxh3_128(), xxhash.xxh3_128()
    list(read_records([path], reading))
    hash_inputs([path], hashing)
    assert reading.digest() == hashing.digest() == xxhash.xxh3_128_digest(Path(path).read_bytes())


def test_cram_is_read_with_its_reference_and_else_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("REF_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("REF_CACHE", "")
    reference = tmp_path / "ref.fa"
    reference.write_text(f">ref\n{REFERENCE}\n")
    pysam.faidx(str(reference))
    path = write(tmp_path / "x.cram", READS, reference_filename=str(reference))
    assert ids_of(path)[:2] == [("a/1", 1), ("a/2", 2)]
    reference.unlink()
    Path(f"{reference}.fai").unlink()
    with pytest.raises(BadInputError, match=r"x\.cram: this CRAM cannot be read.*REF_PATH"):
        ids_of(path)
    unaligned = write(tmp_path / "u.cram", [("a", 0, -3)], reference_filename=None)
    assert ids_of(unaligned) == [("a", 0)]


def test_it_is_told_from_how_a_file_begins(tmp_path):
    path = Path(write(tmp_path / "x.bam", READS))
    assert is_alignments(str(path.rename(tmp_path / "misnamed.fa.gz")))
    (tmp_path / "y.bam").write_bytes(gzip.compress(b">a\nACGT\n"))
    assert not is_alignments(str(tmp_path / "y.bam"))
    assert ids_of(str(tmp_path / "y.bam")) == [("a", 0)]
    assert not is_alignments("-")
    assert not is_alignments(str(tmp_path / "none"))


@pytest.mark.parametrize("left", [30, 120, -30, -60])
@pytest.mark.parametrize("suffix", [".bam", ".cram"])
def test_a_damaged_file_is_told(tmp_path, left, suffix):
    reads = [(f"r{n}", 0, -1 - n % 900) for n in range(5000)]
    path = Path(write(tmp_path / f"x{suffix}", reads))
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(BadInputError, match=f"x{suffix}"):
        ids_of(str(path))


def test_letters_are_checked_and_there_may_be_none(tmp_path):
    assert ids_of(write(tmp_path / "x.bam", [])) == []
    path = tmp_path / "y.bam"
    for dna in (None, "AC=GT"):
        with pysam.AlignmentFile(path, "wb", header=HEADER) as file:
            read = pysam.AlignedSegment(file.header)
            read.query_name, read.flag, read.query_sequence = "odd", 4, dna
            file.write(read)
        if dna is None:
            assert [(each.id, each.dna) for each in read_records([str(path)])] == [("odd", "")]
    with pytest.raises(BadInputError, match=r"record 'odd' \(number 1\) has '=' at position 3"):
        ids_of(str(path))


def test_without_pysam_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "x.bam", READS)
    monkeypatch.setitem(sys.modules, "pysam", None)
    with pytest.raises(BadInputError, match=r"need pysam: pip install 'virnuc-dask\[bam\]'"):
        ids_of(path)
