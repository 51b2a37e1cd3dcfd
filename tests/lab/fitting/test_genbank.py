import bz2
import gzip
import lzma
import sys

import pytest

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.lab.fitting.genbank import is_genbank, read_genbank

DNA = "ATGGCTGAACGTCTGAAAGCTGCTGGTGCTGAACGTGGTACC"


def genbank(name: str = "X1", kind: str = "DNA", dna: str = DNA) -> str:
    unit, kind = ("aa", "   ") if kind == "aa" else ("bp", kind)
    return (
        f"LOCUS       {name:<16} {len(dna):>11} {unit}    {kind:<6}  linear   VRL 01-JAN-2020\n"
        f"VERSION     {name}.1\nFEATURES             Location/Qualifiers\n"
        f"     CDS             join(J00194.1:5..8,1..?)\nORIGIN\n        1 {dna.lower()}\n//\n"
    )


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [("", bytes), (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)],
)
def test_genbank_is_told_from_its_content_and_read_in_every_compression(tmp_path, suffix, pack):
    path = tmp_path / f"records{suffix}"
    # As NCBI's release files begin.
    head = "GBVRL1.SEQ          Genetic Sequence Data Bank\n           October 15 2025\n\n"
    path.write_bytes(pack((head + genbank() + genbank("X2")).encode()))
    assert is_genbank(str(path))
    assert [(record.id, record.dna) for record in read_genbank(str(path))] == [
        ("X1.1", DNA),
        ("X2.1", DNA),
    ]


PACKED = gzip.compress((genbank() * 200).encode(), mtime=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            f"{genbank().partition('ORIGIN')[0]}CONTIG      join(X9.1:1..42)\n//\n".encode(),
            r"record 'X1\.1' has no sequence .*full",
        ),
        (genbank(kind="aa", dna="MAERLK").encode(), r"'X1\.1' is a protein"),
        (PACKED[: len(PACKED) // 2], r"x\.gbk: not a readable GenBank file"),
    ],
    ids=["only points to others", "a protein", "cut"],
)
def test_what_is_no_dna_is_refused(tmp_path, content, message):
    path = tmp_path / "x.gbk"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        list(read_genbank(str(path)))


def test_without_biopython_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "Bio", None)
    with pytest.raises(UsageError, match=r"pip install 'virnuc-dask\[training\]'"):
        next(read_genbank("x.gbk"))
