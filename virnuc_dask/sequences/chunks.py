"""Record → chunks of one length, by the published tool's overlap rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from virnuc_dask.sequences.records import Record


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a record: ``sequence == record.dna[start:end]``, case as in the input."""

    id: str  # "contig9_chunk_2"
    record_id: str
    record_index: int
    number: int  # one-based, as in the id
    start: int
    end: int
    sequence: str


def chunk_spans(length_nt: int, chunk_length: int) -> Iterator[tuple[int, int]]:
    """Spans [start, end) of the chunks of a record, in order.

    All n = ⌈L/C⌉ chunks are C long and their overlaps spread evenly, except that integer division
    can leave a last overlap unspent: then the last chunk is short (L=501, C=500 gives [0, 500) and
    [250, 501)). A record no longer than C is one chunk; an empty one has none.
    """
    count = -(-length_nt // chunk_length)
    if count == 0:
        return
    surplus = count * chunk_length - length_nt
    overlap = surplus // count
    wider = min(surplus - overlap * (count - 1), count - 1)  # steps that overlap one base more
    for step in range(count):
        start = step * (chunk_length - overlap) - min(step, wider)
        yield start, min(start + chunk_length, length_nt)


def cut(record: Record, chunk_length: int) -> Iterator[Chunk]:
    """The chunks of a record, in order."""
    for number, (start, end) in enumerate(chunk_spans(len(record.dna), chunk_length), start=1):
        yield Chunk(
            id=f"{record.id}_chunk_{number}",
            record_id=record.id,
            record_index=record.index,
            number=number,
            start=start,
            end=end,
            sequence=record.dna[start:end],
        )
