import bz2
import gzip
import lzma
import sys

import pytest

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.lab.fitting.genbank import CodingSpan, is_genbank, read_genbank

DNA = "ATGGCTGAACGTCTGAAAGCTGCTGGTGCTGAACGTGGTACC" * 3


def genbank(features: str = "", name: str = "X1", kind: str = "DNA", dna: str = DNA) -> str:
    """One entry; ``features`` are lines as they stand in a feature table."""
    lines = [
        f"LOCUS       {name:<16} {len(dna):>11} {'aa' if kind == 'aa' else 'bp'}    "
        f"{'   ' if kind == 'aa' else kind:<6}  linear   VRL 01-JAN-2020",
        "DEFINITION  made for a test.",
        f"ACCESSION   {name}",
        f"VERSION     {name}.1",
        "FEATURES             Location/Qualifiers",
        f"     source          1..{len(dna)}",
        *features.splitlines(),
        "ORIGIN",
    ]
    for start in range(0, len(dna), 60):
        row = dna[start : start + 60].lower()
        blocks = " ".join(row[at : at + 10] for at in range(0, len(row), 10))
        lines.append(f"{start + 1:>9} {blocks}")
    return "\n".join([*lines, "//", ""])


def cds(location: str, *qualifiers: str) -> str:
    return "\n".join([f"     CDS             {location}", *(f"{'':21}/{q}" for q in qualifiers)])


def spans_of(tmp_path, features: str) -> list[tuple[int, int, str]]:
    path = tmp_path / "x.gbk"
    path.write_text(genbank(features))
    (record,) = read_genbank(str(path))
    return [(span.start, span.end, span.strand) for span in record.coding]


@pytest.mark.parametrize(
    ("features", "spans"),
    [
        (cds("4..33"), [(3, 33, "F")]),
        (cds("complement(4..33)"), [(3, 33, "R")]),
        # The last codon is cut off by the end of the record.
        (cds("4..>35"), [(3, 33, "F")]),
        # The first one is: its rest comes before codon_start.
        (cds("<1..33", "codon_start=3"), [(2, 32, "F")]),
        (cds("complement(4..>35)", "codon_start=2"), [(4, 34, "R")]),
        # A codon begins with 2 bases of the first part and ends with 1 of the second.
        (cds("join(1..11,21..31)"), [(0, 9, "F"), (21, 30, "F")]),
        (cds("complement(join(1..11,21..31))"), [(22, 31, "R"), (1, 10, "R")]),
        (cds("join(complement(21..31),complement(1..11))"), [(22, 31, "R"), (1, 10, "R")]),
        # A first part too short for its own codon_start.
        (cds("join(<1..1,11..20)", "codon_start=3"), [(11, 20, "F")]),
        # Ribosomal slippage: base 30 is read twice.
        (cds("join(1..30,30..59)"), [(0, 30, "F"), (29, 59, "F")]),
        # The first part lies in another record.
        (cds("join(J00194.1:5..8,1..10)"), [(2, 8, "F")]),
        (cds("4..33", "pseudo"), []),
        (cds("4..33", 'pseudogene="unprocessed"'), []),
        (cds("4..33", 'codon_start="?"'), []),
        (cds("1..2"), []),
        (f"     gene            4..33\n{cds('7..12')}", [(6, 12, "F")]),
    ],
)  # fmt: skip
def test_codons_of_a_cds_are_found_where_they_lie(tmp_path, features, spans):
    assert spans_of(tmp_path, features) == spans


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        ("", bytes),
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
    ],
)
def test_genbank_is_told_from_its_content_and_read_in_every_compression(tmp_path, suffix, pack):
    path = tmp_path / f"records{suffix}"
    path.write_bytes(pack((genbank(cds("1..30")) + genbank(name="X2")).encode()))
    assert is_genbank(str(path))
    first, second = read_genbank(str(path))
    assert (first.id, first.dna, first.coding) == ("X1.1", DNA, (CodingSpan(0, 30, "F"),))
    assert (second.id, second.coding) == ("X2.1", ())


def test_the_lines_before_the_first_entry_of_a_release_file_do_not_matter(tmp_path):
    path = tmp_path / "gbvrl1.seq"
    head = "GBVRL1.SEQ          Genetic Sequence Data Bank\n           October 15 2025\n\n"
    path.write_text(head + genbank())
    assert is_genbank(str(path))
    assert [record.id for record in read_genbank(str(path))] == ["X1.1"]


@pytest.mark.parametrize("text", [">x\nACGT\n", "@x\nACGT\n+\nIIII\n", ""])
def test_fasta_and_fastq_are_not_genbank(tmp_path, text):
    path = tmp_path / "x.gbk"
    path.write_text(text)
    assert not is_genbank(str(path))


def test_an_entry_without_its_sequence_says_what_to_download(tmp_path):
    path = tmp_path / "con.gbk"
    text = genbank()
    path.write_text(text[: text.index("ORIGIN")] + "CONTIG      join(X9.1:1..126)\n//\n")
    with pytest.raises(BadInputError, match=r"con\.gbk: record 'X1\.1' has no sequence .*full"):
        list(read_genbank(str(path)))


def test_a_protein_is_refused(tmp_path):
    path = tmp_path / "x.gp"
    path.write_text(genbank(kind="aa", dna="MAERLK"))
    with pytest.raises(BadInputError, match=r"'X1\.1' is a protein"):
        list(read_genbank(str(path)))


def test_a_cut_file_is_refused_with_its_place(tmp_path):
    path = tmp_path / "x.gbk.gz"
    packed = gzip.compress((genbank() * 200).encode(), mtime=0)
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(BadInputError, match=r"x\.gbk\.gz: not a readable GenBank file"):
        list(read_genbank(str(path)))


def test_without_biopython_it_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "x.gbk"
    path.write_text(genbank())
    monkeypatch.setitem(sys.modules, "Bio", None)
    with pytest.raises(UsageError, match=r"pip install 'virnuc-dask\[training\]'"):
        list(read_genbank(str(path)))
