"""Reads → reads and which of them are the mates of a pair."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from virnuc_dask.errors import BadInputError

if TYPE_CHECKING:
    from virnuc_dask.sequences.records import Record

ALONE = -1  # the mate of a read whose other one is missing
_ILLUMINA = re.compile(r"([12]):[YN]:")


def pair_id(record_id: str) -> str:
    """What the ids of both mates have in common: the id without /1 or /2."""
    return record_id[:-2] if record_id.endswith(("/1", "/2")) else record_id


def paired_files(
    ones: Iterator[Record], twos: Iterator[Record], paths: Sequence[str]
) -> Iterator[tuple[Record, int]]:
    """First and second mates, pair by pair, and their numbers; the rest of the longer file alone.

    `BadInputError` if two that have the same place are named as no mates are.
    """
    for number, (one, two) in enumerate(zip_longest(ones, twos), 1):
        if one is None or two is None:
            yield one or two, ALONE
            continue
        if not _are_named_alike(one.id, two.id):
            raise BadInputError(
                f"{paths[0]} and {paths[1]}: the reads number {number} are {one.id!r} and "
                f"{two.id!r}, no mates. Files of mates must have one order, with no read left out "
                "of one of them; or give both as INPUTS, where no pairs are asked for."
            )
        yield from ((one, 1), (two, 2))


def _are_named_alike(one: str, two: str) -> bool:
    # Or as SRA's tools name them: a number at the end.
    return pair_id(one) == pair_id(two) or (one[:-1], one[-1], two[-1]) == (two[:-1], "1", "2")


def neighbours(reads: Iterator[Record], paired: bool | None) -> Iterator[tuple[Record, int]]:
    """All reads, those in order that are mates of a pair, and their numbers.

    Mates follow one another, have one name, and say by it, or by an Illumina comment, which is
    which. Where it is known that all are ``paired``, none of them needs to say so.
    """
    held: Record | None = None
    for read in reads:
        if held is None:
            held = read
            continue
        marks = _mark(held), _mark(read)
        is_pair = sorted(marks) == [1, 2] or (paired is True and marks == (0, 0))
        if is_pair and pair_id(held.id) == pair_id(read.id):
            yield from zip((held, read) if marks[0] < 2 else (read, held), (1, 2), strict=True)
            held = None
        else:
            yield held, _alone(held, paired)
            held = read
    if held is not None:
        yield held, _alone(held, paired)


def _mark(read: Record) -> int:
    """1 or 2, as a read says itself; else 0."""
    if read.id.endswith(("/1", "/2")):
        return int(read.id[-1])
    found = _ILLUMINA.match(read.description)
    return int(found[1]) if found else 0


def _alone(read: Record, paired: bool | None) -> int:
    return ALONE if paired or _mark(read) else 0
