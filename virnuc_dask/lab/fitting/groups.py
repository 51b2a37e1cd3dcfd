"""Records that belong together, and how they are split: a group is never torn apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.errors import UsageError
from virnuc_dask.lab.fitting.options import PARTS
from virnuc_dask.lab.splits.kmers import Numbers, kmers_of

UNUSED = -1
K = 31

# 31-mers that are held at once, at about 40 bytes each.
_KMERS_AT_ONCE = 1 << 25
# Nucleotides whose 31-mers are packed together.
_PIECE_NT = 1 << 21
_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
# Share of the smallest part from which on a group is placed by its size.
_LARGE_GROUP = 0.25
# Tandem repeats of so many bases or fewer (poly-A, microsatellites) are in sequences of any origin.
_LONGEST_PERIOD = 6

Ints = NDArray[np.int64]


def similar_groups(
    records: Callable[[], Iterable[str]],
    length_nt: Ints,
    kmers_at_once: int = _KMERS_AT_ONCE,
    piece_nt: int = _PIECE_NT,
) -> Ints:
    """Group records that share a 31-mer, on either strand, directly or through others.

    31-mers with a letter other than A, C, G, T do not count, nor do tandem repeats of up to six
    bases. ``records`` gives the DNA of all records, in order; it is called once for about every
    ``kmers_at_once`` nucleotides, so that memory stays bounded. Returned is for each record the
    index of the first record of its group.
    """
    first = np.arange(len(length_nt))
    passes = max(1, -(-int(length_nt.sum()) // kmers_at_once))
    for number in range(passes):
        kmers, found_in = _kmers_of_pass(_pieces(records(), piece_nt), number, passes)
        order = np.argsort(kmers)
        kmers, found_in = kmers[order], found_in[order]
        same = kmers[1:] == kmers[:-1]
        first = _joined(first, found_in[:-1][same], found_in[1:][same])
    return first


def _pieces(records: Iterable[str], piece_nt: int) -> Iterator[tuple[list[str], Ints]]:
    """Pieces of records, about ``piece_nt`` together, and their records; every 31-mer is in one."""
    pieces: list[str] = []
    record_of: list[int] = []
    gathered_nt = 0
    for number, dna in enumerate(records):
        for start in range(0, max(len(dna) - K + 1, 1), piece_nt):
            pieces.append(dna[start : start + piece_nt + K - 1])
            record_of.append(number)
            gathered_nt += len(pieces[-1])
            if gathered_nt >= piece_nt:
                yield pieces, np.array(record_of)
                pieces, record_of, gathered_nt = [], [], 0
    if pieces:
        yield pieces, np.array(record_of)


def _kmers_of_pass(
    batches: Iterable[tuple[list[str], Ints]], number: int, passes: int
) -> tuple[Numbers, Ints]:
    """Those of the records' 31-mers whose hash falls to pass ``number``, and their records."""
    found, records = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for pieces, record_of in batches:
        kmers, piece = kmers_of(pieces, K)
        hashed = (kmers * _MULTIPLIER) >> np.uint64(32)
        kept = np.flatnonzero(hashed % np.uint64(passes) == number)
        kept = kept[~_is_tandem_repeat(kmers[kept])]
        found.append(kmers[kept])
        records.append(record_of[piece[kept]])
    return np.concatenate(found), np.concatenate(records)


def _is_tandem_repeat(kmers: Numbers) -> NDArray[np.bool_]:
    repeats = np.zeros(len(kmers), np.bool_)
    for period in range(1, _LONGEST_PERIOD + 1):
        rest = np.uint64((1 << 2 * (K - period)) - 1)
        repeats |= (kmers >> np.uint64(2 * period)) == (kmers & rest)
    return repeats


def _joined(first: Ints, left: Ints, right: Ints) -> Ints:
    """Join the groups of ``left[i]`` and ``right[i]``: each group is called by its least index."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    records, left, right = len(first), first[left], first[right]
    apart = left != right
    ends = np.append(np.arange(records), left[apart]), np.append(first, right[apart])
    joins = coo_array((np.ones(len(ends[0]), np.bool_), ends), (records, records))
    _, group = connected_components(joins, directed=False)
    _, least = np.unique(group, return_index=True)
    return np.asarray(least[group], np.int64)


@dataclass(frozen=True, slots=True)
class Split:
    """Which part each record belongs to, and how many groups of each class each part has."""

    part: NDArray[np.int8]  # by record: an index of `PARTS`, or `UNUSED`
    groups: tuple[tuple[int, int], ...]  # by part: (with viruses, with others)
    largest: float  # share of all weight that the largest group has
    group: Ints  # of each record


def split_groups(
    group: Ints,
    is_virus: NDArray[np.bool_],
    weight: Ints,
    shares: Sequence[float],
    seed: int,
) -> Split:
    """Split groups so that each part gets its share of both classes' weight, as far as they allow.

    Groups that are large beside a part are placed first, each where it brings the parts closest to
    their shares, all others in an order that ``seed`` draws, each into the part that is emptiest:
    so records of any length are in every part. Every part gets a group of both classes.

    Parameters
    ----------
    group, weight
        Of each record: any number; such as its length, without which it is not used.
    shares
        Of three parts or more; they sum to 1.

    `UsageError` if there are too few groups.
    """
    used = np.flatnonzero(weight > 0)
    names, number = np.unique(group[used], return_inverse=True)
    by_class = np.zeros((len(names), 2))
    np.add.at(by_class, (number, (~is_virus[used]).astype(int)), weight[used])
    counts = (by_class > 0).sum(axis=0)
    _require_groups(counts)
    by_class /= by_class.sum(axis=0)
    size = by_class.max(axis=1)
    # Small groups count as equally large, which leaves them in the order that was drawn.
    size = np.where(size > min(shares) * _LARGE_GROUP, size, 0)
    drawn = np.random.default_rng(seed).permutation(len(names))
    order = drawn[np.argsort(-size[drawn], kind="stable")]
    placed = np.empty(len(names), np.int8)
    placed[order] = _place(by_class[order].tolist(), (size[order] > 0).tolist(), shares)
    part = np.full(len(group), UNUSED, np.int8)
    part[used] = placed[number]
    groups = [(by_class[placed == index] > 0).sum(axis=0).tolist() for index in range(len(shares))]
    if not np.all(groups):
        _require_groups(np.zeros(2))
    largest = float(by_class.mean(axis=1).max())
    return Split(part, tuple((virus, others) for virus, others in groups), largest, group)


def _place(
    groups: Sequence[Sequence[float]], is_large: Sequence[bool], shares: Sequence[float]
) -> list[int]:
    """The part of each group, given its shares of the two classes, large ones first."""
    have = [[0.0, 0.0] for _ in shares]
    left = [sum(group[side] > 0 for group in groups) for side in (0, 1)]
    placed = []
    for group, large in zip(groups, is_large, strict=True):
        sides = [side for side in (0, 1) if group[side] > 0]
        choices = list(range(len(shares)))
        for side in sides:
            # As many groups as parts without one: from here on each must go to such a part.
            lacking = [part for part in choices if not have[part][side]]
            if left[side] <= sum(not part[side] for part in have) and lacking:
                choices = lacking
        best = min(choices, key=lambda part: _cost(group, have[part], shares[part], large))
        for side in sides:
            have[best][side] += group[side]
            left[side] -= 1
        placed.append(best)
    return placed


def _cost(group: Sequence[float], have: Sequence[float], share: float, large: bool) -> float:
    """How much further from its share a part is with the group; of a small one, how full it is."""
    return sum(
        size * (2 * (had - share) + (size if large else 0)) / share
        for size, had in zip(group, have, strict=True)
    )


def _require_groups(counts: NDArray[np.int64] | NDArray[np.float64]) -> None:
    for name, count in zip(("virus", "others"), counts.tolist(), strict=True):
        if count < len(PARTS):
            had = f"{count:.0f} group(s) of {name}" if count else f"the groups of {name}"
            raise UsageError(
                f"{had} cannot be split into training, validation and test. Records that are "
                "similar stay in one group: add records that are not, or name groups of your own "
                "with --groups."
            )
