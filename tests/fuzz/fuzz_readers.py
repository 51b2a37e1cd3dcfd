"""Coverage-guided fuzzing of the readers: python tests/fuzz/fuzz_readers.py -max_total_time=60.

Whatever the bytes are: either `BadInputError`, or records that keep what they promise, through
chunks and frames; the same whether records are read together or one by one.
"""

import io
import sys
from types import SimpleNamespace

import atheris

with atheris.instrument_imports(include=["virnuc_dask.sequences"]):
    from virnuc_dask.sequences import text
    from virnuc_dask.sequences.chunks import chunk_spans
    from virnuc_dask.sequences.frames import find_frames
    from virnuc_dask.sequences.records import Record, read_records

import hashlib

from virnuc_dask.errors import BadInputError

COLUMNS = (text.fasta_columns, text.fastq_columns)
DNA = set("ACGTRYSWKMBDHVN-acgtryswkmbdhvn")
BLOCKS = (1, 2, 3, 7, 64, 1 << 20)


def read(
    content: bytes, block: int, digest: object = None, *, together: bool = True
) -> list[Record] | str:
    """The records of standard input, or the message that refuses it."""
    text._BLOCK = block
    text.fasta_columns, text.fastq_columns = COLUMNS if together else (lambda _: None,) * 2
    sys.stdin = SimpleNamespace(buffer=io.BytesIO(content))  # type: ignore[assignment]
    try:
        return list(read_records(["-"], digest))  # type: ignore[arg-type]
    except BadInputError as error:
        return str(error)


def check(records: list[Record], chunk_length: int) -> None:
    """Hold records to what is promised of them."""
    for number, record in enumerate(records):
        assert record.index == number
        assert record.id
        assert record.id.split() == [record.id]
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in record.id)
        record.id.encode()
        assert set(record.dna) <= DNA
        spans = list(chunk_spans(len(record.dna), chunk_length))
        covered = 0
        for start, end in spans:
            assert start <= covered < end, "chunks leave no gap"
            covered = end
        assert covered == len(record.dna)
        chunks = [record.dna[start:end] for start, end in spans]
        for chunk, frames in zip(chunks, find_frames(chunks), strict=True):
            for frame in frames:
                assert frame.peptide
                assert "*" not in frame.peptide
                assert len(frame.dna) <= min(3 * len(frame.peptide) + 1, len(chunk))


def test_one(data: bytes) -> None:
    """Take the first two bytes as settings and the rest as a file."""
    if len(data) < 2:
        return
    block, chunk_length, content = BLOCKS[data[0] % len(BLOCKS)], 3 + data[1] % 60, data[2:]
    digest = hashlib.sha256()
    records = read(content, block, digest)
    assert isinstance(read(content, 1 << 20), list) == isinstance(records, list)
    assert read(content, block, together=False) == records
    if isinstance(records, str):
        assert records.startswith("standard input: ")
        assert records.replace("\n", "").replace("\t", "").isprintable()
        return
    assert digest.digest() == hashlib.sha256(content).digest()
    check(records, chunk_length)
    written = "".join(f">{r.id}\n{r.dna}\n" for r in records).encode()
    again = read(written, block)
    assert isinstance(again, list)
    assert [(r.id, r.dna) for r in again] == [(r.id, r.dna) for r in records]


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one)
    atheris.Fuzz()
