import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from xopen import xopen

from virnuc_dask.errors import BadInputError
from virnuc_dask.sequences.records import hash_inputs, read_records

FASTA = b">one first record\nACGT\nacgtn\n>two\tx\nRYK-\n"
FASTQ = b"@one first read\nACGT\n+\nIIII\n@two\nacgn\n+two\n!!!!\n"
EMPTY = b">one\n\n>two\n"
COMPRESSIONS = ["gz", "bz2", "xz", "zst"]
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file, compressed by its suffix where that names a compression; returns its path."""

    def to_file(content: bytes, name: str = "input.fa") -> str:
        path = tmp_path / name
        packed = path.suffix.removeprefix(".") in COMPRESSIONS
        with xopen(path, "wb", threads=0) if packed else path.open("wb") as stream:
            stream.write(content)
        return str(path)

    return to_file


@pytest.fixture(scope="module")
def long_fasta() -> bytes:
    """More than fits one block of any compression, and hard to compress."""
    rng = random.Random(3)
    return b"".join(
        b">r%d\n%s\n" % (n, "".join(rng.choices("ACGT", k=2000)).encode()) for n in range(600)
    )


def content(*inputs: str) -> list[tuple[int, str, str]]:
    return [(record.index, record.id, record.dna) for record in read_records(inputs)]


@pytest.mark.parametrize(
    ("plain", "dna"), [(FASTA, ("ACGTacgtn", "RYK-")), (FASTQ, ("ACGT", "acgn")), (EMPTY, ("", ""))]
)
def test_a_record_is_its_headers_first_word_and_its_joined_lines(write, plain, dna):
    expected = [(0, "one", dna[0]), (1, "two", dna[1])]
    assert content(write(plain)) == content(write(plain.rstrip(b"\n"))) == expected
    assert content(write(plain.replace(b"\n", b"\r\n"))) == expected
    assert content(write(b"\n\n" + plain + b"\n\n")) == expected


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_compressed_file_of_two_members_is_read_whatever_it_is_called(write, compression):
    packed = Path(write(FASTA, f"x.{compression}"))
    misnamed = packed.with_name("misnamed.fa")
    misnamed.write_bytes(packed.read_bytes() * 2)
    expected = [(name, dna) for _, name, dna in content(write(FASTA))] * 2
    assert [(name, dna) for _, name, dna in content(str(misnamed))] == expected


def test_several_inputs_are_numbered_through(write):
    inputs = [write(FASTA), write(b"", "empty.fa"), write(FASTQ, "reads.fq.gz")]
    expected = [(0, "one"), (1, "two"), (2, "one"), (3, "two")]
    assert [(index, name) for index, name, _ in content(*inputs)] == expected


@pytest.mark.parametrize("name", ["x.fa", *(f"x.{compression}" for compression in COMPRESSIONS)])
def test_the_digest_is_that_of_the_raw_bytes(write, long_fasta, name):
    inputs = [write(long_fasta, name), write(b"", "empty.fa"), write(FASTA, "last.fa.gz")]
    raw = b"".join(Path(path).read_bytes() for path in inputs)
    reading, hashing = hashlib.sha256(), hashlib.sha256()
    assert len(list(read_records(inputs, reading))) == 602
    hash_inputs(inputs, hashing)
    assert reading.digest() == hashing.digest() == hashlib.sha256(raw).digest()


def test_what_follows_a_compressed_stream_belongs_to_the_digest(write):
    path = Path(write(FASTA, "x.bz2"))
    path.write_bytes(path.read_bytes() + bytes(3 << 20))  # bzip2 ignores what follows, as bunzip2
    digest = hashlib.sha256()
    assert len(list(read_records([str(path)], digest))) == 2
    assert digest.digest() == hashlib.sha256(path.read_bytes()).digest()


def test_files_are_closed_when_reading_ends_early(write, long_fasta):
    # A file left open is a ResourceWarning, and a warning fails the test.
    records = read_records([write(long_fasta, "x.gz")])
    assert next(records).id == "r0"
    records.close()


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("seed", range(5))
def test_a_corrupt_or_truncated_compressed_file_is_refused(write, long_fasta, compression, seed):
    # Hard to compress, so that what is changed is DNA: zstd files need not bear a checksum.
    path = Path(write(long_fasta[:9000], f"x.{compression}"))
    whole, rng = path.read_bytes(), random.Random(seed)
    corrupt = whole[:12] + rng.randbytes(len(whole) - 20) + whole[-8:]
    for damaged in (corrupt, whole[: rng.randrange(1, len(whole) - 1)]):
        path.write_bytes(damaged)
        with pytest.raises(BadInputError, match=str(path)):
            content(str(path))
