"""Every odd input with its exit code and what the user is told, through the command line."""

import bz2
import csv
import gzip
import io
import lzma
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from xopen import xopen

DNA = b"ATGGCTGAACGTCTGAAAGCTGCTGGTGCTGAACGT" * 20  # 720 nt: two chunks of 500 nt, one piece
TWO = b">one first\n%s\n>two\n%s\n" % (DNA, DNA[:300])
READS = b"@one\n%s\n+\n%s\n@two\n%s\n+\n%s\n" % (DNA, b"I" * 720, DNA[:300], b"@" * 300)
TWO_READ = "2 records, 1020 nt, 2 pieces"
ONE_READ = "1 records, 720 nt, 1 pieces"
UNREADABLE = "not a readable FASTA or FASTQ file"


def zstd(content: bytes) -> bytes:
    packed = io.BytesIO()
    with xopen(packed, "wb", format="zst", threads=0) as stream:
        stream.write(content)
    return packed.getvalue()


def wrong_crc(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content))
    packed[-8] ^= 1
    return bytes(packed)


def corrupt(packed: bytes) -> bytes:
    return packed[: len(packed) // 2] + b"corrupt" + packed[len(packed) // 2 + 7 :]


@dataclass(frozen=True)
class Row:
    """An input, its exit code, and words of the message or the counts."""

    what: str
    content: bytes
    code: int
    words: tuple[str, ...]


def fine(what: str, content: bytes, *words: str) -> Row:
    return Row(what, content, 0, words or (TWO_READ,))


def refused(what: str, content: bytes, *words: str) -> Row:
    return Row(what, content, 3, words)


TABLE = [
    # Compression
    fine("gzip", gzip.compress(TWO)),
    fine("bzip2", bz2.compress(TWO)),
    fine("xz", lzma.compress(TWO)),
    fine("zstandard", zstd(TWO)),
    refused("truncated gzip", gzip.compress(TWO)[:-12], UNREADABLE, "Is it complete?"),
    refused("truncated in the last member", gzip.compress(TWO) + gzip.compress(TWO)[:-9]),
    refused("corrupt gzip", corrupt(gzip.compress(os.urandom(3000).hex().encode())), UNREADABLE),
    refused("gzip with a wrong CRC", wrong_crc(TWO), UNREADABLE, "Is it complete?"),
    refused("truncated bzip2", bz2.compress(TWO)[:-12], UNREADABLE, "Is it complete?"),
    refused("truncated xz", lzma.compress(TWO)[:-12], UNREADABLE, "Is it complete?"),
    refused("truncated zstandard", zstd(TWO)[:-12], UNREADABLE, "Is it complete?"),
    refused("gzip within gzip", gzip.compress(gzip.compress(TWO)), UNREADABLE, "neither >"),
    # Lines
    fine("CRLF", TWO.replace(b"\n", b"\r\n")),
    fine("CRLF in FASTQ", READS.replace(b"\n", b"\r\n")),
    fine("no final newline", TWO.rstrip()),
    fine("no final newline, FASTQ", READS.rstrip()),
    fine("a carriage return at the end", TWO.rstrip() + b"\r"),
    fine("leading blank lines", b"\n\r\n  \n" + TWO),
    fine("leading blank lines, FASTQ", b"\n\n" + READS),
    fine("trailing blank lines", TWO + b"\n\n\n"),
    *(fine(f"{n} trailing blank lines, FASTQ", READS + n * b"\n") for n in range(1, 6)),
    fine("blanks at the ends of lines", TWO.replace(b"GT\n", b"GT \t\n")),
    fine("a byte order mark", b"\xef\xbb\xbf" + TWO),
    refused("lines that end in CR alone", TWO.replace(b"\n", b"\r"), "carriage return"),
    # Emptiness
    fine("empty file", b"", "0 records", "the input holds no records"),
    fine("blank lines only", b"\n \n\n", "0 records"),
    *(
        fine(f"empty, packed {number}", pack(b""), "0 records")
        for number, pack in enumerate((gzip.compress, bz2.compress, lzma.compress, zstd))
    ),
    refused("only >", b">", "record 1 has no name; give it one"),
    refused("a nameless record", TWO + b"> \n" + DNA, "record 3 has no name"),
    fine("empty record first", b">none\n" + TWO, "3 records, 1020 nt, 2 pieces"),
    fine("empty record in the middle", TWO + b">none\n\n" + TWO, "5 records, 2040 nt, 4 pieces"),
    fine("empty record last", TWO + b">none", "3 records, 1020 nt, 2 pieces"),
    fine("an empty read last", READS + b"@none\n\n+\n\n", "3 records, 1020 nt, 2 pieces"),
    fine("and cut in its blank lines", READS + b"@none\n\n+", "3 records, 1020 nt, 2 pieces"),
    fine(
        "records of 1 to 5 nt", b">1\nA\n>2\nAC\n>3\nACG\n>4\nACGT\n>5\nACGTA\n", "5 records, 15 nt"
    ),
    # Letters
    refused(
        "NUL in a sequence", b">a\nAC\0GT\n", r"'a' (number 1) has '\x00' at position 3", "damaged"
    ),
    refused("NUL in a name", b">a\0b\nACGT\n", "record 1 has control characters", r"'a\x00b'"),
    refused("zeros", bytes(100), UNREADABLE, "at its start"),
    refused("blanks", b">a\nACGT AC\n", "has ' ' at position 5", "Leave numbers and blanks out"),
    refused("digits", b">a\n1 ACGT\n61 ACGT\n", "has '1' at position 1", "numbered listing"),
    refused("other letters than ASCII", b">a\nAC\xe9GT\n", "the byte 0xE9 at position 3"),
    refused("protein", TWO + b">p53\nMEEPQ\n", "'p53' (number 3) has 'E' at position 2", "protein"),
    refused("protein as FASTQ", b"@p\nMEEP\n+\nIIII\n", "Is this a protein? Give DNA."),
    refused("a stop", b">p\nMKV*\n", "has '*' at position 4", "protein"),
    fine("lower case", TWO.lower()),
    fine("U instead of T", TWO.replace(b"T", b"U"), TWO_READ, "2 record(s) have U"),
    fine("IUPAC", b">a\nACGTRYSWKMBDHVN\n", "1 records, 15 nt"),
    fine("gaps", b">a\nAC--GT\n", "1 records, 6 nt"),
    # Headers
    fine("Latin-1 after the name", b">one caf\xe9\n" + DNA, ONE_READ),
    refused(
        "Latin-1 in the name", TWO + b">caf\xe9\n" + DNA, "record 3 has a name that is not UTF-8"
    ),
    fine("UTF-8 in the name", ">Phäge_λ\n".encode() + DNA, ONE_READ),
    fine("UTF-8 in the name, FASTQ", "@λ\nACGT\n+\nIIII\n".encode(), "1 records, 4 nt"),
    fine("UTF-8 after the name, FASTQ", b"@a \xff\nACGT\n+\nIIII\n", "1 records, 4 nt"),
    fine("a header of 10 kB", b">" + 10_000 * b"x" + b"\n" + DNA, ONE_READ),
    fine("duplicate ids", TWO + TWO, "4 records", "2 record(s) repeat an id"),
    fine("a tab in the header", b">one\ttab\n" + DNA, ONE_READ),
    refused(
        "a terminal's escape", b">\x1b]0;x\x07\nACGT\n", r"'\x1b]0;x\x07'", "control characters"
    ),
    # Format
    fine("FASTQ", READS),
    fine("FASTQ with @ in qualities", READS.replace(b"I" * 720, b"@" * 720)),
    fine("FASTQ with > in qualities", READS.replace(b"I" * 720, b">" * 720)),
    refused(
        "truncated FASTQ: no qualities", READS[:-301], "after record 1", "fewer than four lines"
    ),
    refused("truncated FASTQ: fewer", READS[:-9], "after record 1", "300 bases but 292 qualities"),
    refused(
        "truncated FASTQ: a line",
        READS + b"@three\nACG",
        "after record 2",
        "Is the file cut short?",
    ),
    refused("FASTQ of two names", b"@a\nAC\n+b\nII\n", "two names"),
    refused("FASTQ of many lines", b"@a\nAC\nAC\n+\nII\nII\n", "Give every read in four lines"),
    refused("FASTA after FASTQ", READS + TWO, "after record 2", "not with @"),
    refused("a blank line amid FASTQ", READS + b"\n" + READS, UNREADABLE, "after record 2"),
    refused("two carriage returns", b">a\nACGT\r\r\n", UNREADABLE),
    refused("UTF-16", b"\xff\xfe>\0a\0", UNREADABLE),
    refused("prose", b"Dear reader,\n", UNREADABLE, "it has b'Dear reader"),
    refused("GenBank", b"LOCUS  X\n", "neither > (FASTA) nor @ (FASTQ)"),
    refused("a picture", b"\x89PNG\r\n\x1a\n\0\0", UNREADABLE),
]


@pytest.fixture
def counted(command, tmp_path):
    """Counts the inputs: exit code and everything that was said."""

    def call(*inputs: object) -> tuple[int, str]:
        code, out, err = command("run", *inputs, "-o", tmp_path / "out", "--dry-run")
        assert "Traceback" not in err
        return code, out + err

    return call


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.what)
def test_input(counted, tmp_path, row):
    path = tmp_path / "input"
    path.write_bytes(row.content)
    code, said = counted(path)
    assert code == row.code, said
    for words in row.words:
        assert words in said
    assert (str(path) in said) == bool(code), "an error names the file"
    assert sorted(tmp_path.iterdir()) == [path], "nothing is written"


def test_a_missing_file_and_a_directory_are_named(counted, tmp_path):
    for source, words in (
        (tmp_path / "missing", "no such file"),
        (tmp_path, "a folder without sequence files"),
    ):
        code, said = counted(source)
        assert code == 3
        assert words in said
        assert str(source) in said


@pytest.mark.parametrize("packed", [TWO, READS, gzip.compress(TWO)], ids=["FASTA", "FASTQ", "gzip"])
def test_a_fifo_and_standard_input_are_read_as_a_file_is(counted, tmp_path, monkeypatch, packed):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(packed,))
    writer.start()
    code, said = counted(fifo)
    writer.join()
    assert (code, said.count(TWO_READ)) == (0, 1)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(packed)))
    code, said = counted("-")
    assert (code, said.count(TWO_READ)) == (0, 1)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b">p\nMEEP\n")))
    code, said = counted("-")
    assert (code, "standard input: record 'p'" in said) == (3, True)


# What becomes of ids


IDS = (
    "\u202egnp.exe",
    "../../x",
    "/etc/x",
    "..",
    "~",
    "<script>alert(1)</script>",
    "=cmd()",
    "+1",
    "@x",
    '"it\'s"',
    "a,b",
    "a;touch${IFS}sung",
    "$(touch${IFS}sung)",
    "λ",
    "%s{0}{x}",
    "[red]",
    "x" * 10_000,
)
RUN_FOLDER = {
    ".lock",
    "chunks.parquet",
    "contigs.parquet",
    "contigs.tsv",
    "features",
    "genes.parquet",
    "multiqc",
    "partitions",
    "prediction_results.txt",
    "prediction_results_highestscore.csv",
    "predictions",
    "run.json",
    "run.log.jsonl",
    "versions.yml",
    "virus.fasta",
    *(f"virus_regions.{kind}" for kind in ("bed", "fasta", "gff3", "tsv")),
}


def rows_of(table: str) -> list[list[str]]:
    with Path(table).open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream, "excel-tab"))[1:]


def test_ids_are_data_and_stay_what_they_are(command, tmp_path, monkeypatch):
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    Path("odd.fa").write_bytes(b"".join(b">%s x\n%s\n" % (name.encode(), DNA) for name in IDS))
    way = ("--cluster", "none", "--threads", 1, "--verbose")
    code, out, err = command("run", "odd.fa", "-o", "out", *way)
    assert code == 0, err

    made = {path.relative_to(inner).parts for path in tmp_path.rglob("*") if path.is_file()}
    assert {parts[0] for parts in made} == {"odd.fa", "out"}, "nothing is written elsewhere"
    assert {parts[1] for parts in made if len(parts) > 1} <= RUN_FOLDER
    assert not Path("/etc/x").exists()

    rows = rows_of("out/contigs.tsv")
    assert [row[0] for row in rows] == list(IDS)
    assert {len(row) for row in rows} == {18}
    assert {row[0] for row in rows_of("out/virus_regions.tsv")} <= set(IDS)
    assert set(pq.read_table("out/genes.parquet")["record_id"].to_pylist()) <= set(IDS)
    chunks = rows_of("out/prediction_results_highestscore.csv")
    assert {chunk.rpartition("_chunk_")[0] for chunk, _ in chunks} <= set(IDS)

    assert r"\u202egnp.exe" in out, "a name that would turn the line around is spelt out"
    assert "\u202e" not in out + err
