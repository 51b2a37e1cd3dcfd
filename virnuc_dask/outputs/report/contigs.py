"""``contigs.tsv``, read piece by piece, and what a page shows of its records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.modelsets.calibration import Floats
from virnuc_dask.outputs.contig_table import read_contig_table
from virnuc_dask.stages.calls import OTHERS, UNSURE, VIRUS, CallRule

_VALUES = ("score", "probability", "q_value")
_LISTED = 20
_DRAWN = 2_000  # viruses, and as many of the rest
_BINS = 40
_SEED = 0
Q_VALUES = (0.01, 0.05, 0.1, 0.2)
CALLS = (VIRUS, OTHERS, UNSURE)

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Contigs:
    """Some records of a run, column by column.

    ``margin`` is how far a record lies above what makes it a virus, below 0 if it is none; NaN
    where nothing was scored.
    """

    row: Rows  # index of the record in the input
    record_id: NDArray[Any]
    call: NDArray[Any]
    length_nt: Rows
    value: Floats  # what the call goes by, a probability or a score
    q_value: Floats  # NaN without a calibration
    margin: Floats

    def __len__(self) -> int:
        return len(self.row)

    def take(self, rows: NDArray[Any]) -> Contigs:
        """Some of them."""
        return Contigs(*(getattr(self, column.name)[rows] for column in fields(self)))

    def joined(self, other: Contigs) -> Contigs:
        """These, then the other ones."""
        pairs = ((getattr(self, c.name), getattr(other, c.name)) for c in fields(self))
        return Contigs(*(np.concatenate(pair) for pair in pairs))


def read_contigs(path: Path, rule: CallRule) -> Iterator[Contigs]:
    """The records of a ``contigs.tsv`` that was written by ``rule``, some at a time.

    Raises
    ------
    BadTableError
        If the file is missing or damaged.
    """
    first = 0
    for batch in read_contig_table(path, ("record_id", "length_nt", "call", *_VALUES)):
        yield _contigs(batch, first, rule)
        first += len(batch)


def _contigs(batch: pa.RecordBatch, first: int, rule: CallRule) -> Contigs:
    length = batch["length_nt"].to_numpy().astype(np.int64)
    score, chance, q_value = (batch[name].to_numpy(zero_copy_only=False) for name in _VALUES)
    ids, call = (batch[name].to_numpy(zero_copy_only=False) for name in ("record_id", "call"))
    value = chance if rule.has_probability else score
    if rule.fdr is not None:
        margin = rule.fdr - q_value
    else:
        margin = value - (rule.threshold(length) if rule.contig_model is not None else 0.5)
    return Contigs(np.arange(len(batch)) + first, ids, call, length, value, q_value, margin)


@dataclass
class Digest:
    """What a page shows of all records: its size does not depend on their number."""

    by: str  # what the calls go by: "probability" or "score"
    records: int = 0
    shortest_nt: int = 1 << 62
    longest_nt: int = 1
    histogram: dict[str, Rows] = field(
        default_factory=lambda: {call: np.zeros(_BINS, np.int64) for call in CALLS}
    )
    # q-value up to: how many records, and the highest of theirs
    q_values: dict[float, tuple[int, float]] = field(
        default_factory=lambda: dict.fromkeys(Q_VALUES, (0, 0.0))
    )
    highest: Contigs | None = None
    nearest: Contigs | None = None
    viruses: Contigs | None = None  # drawn at random, for the plot
    rest: Contigs | None = None

    @classmethod
    def read(cls, path: Path, rule: CallRule) -> Digest:
        """Of a ``contigs.tsv``; see `read_contigs`."""
        digest = cls("probability" if rule.has_probability else "score")
        rng = np.random.default_rng(_SEED)
        keys: dict[bool, Floats] = {True: np.zeros(0), False: np.zeros(0)}
        for contigs in read_contigs(path, rule):
            digest.add(contigs)
            digest._draw(contigs, keys, rng)
        return digest

    @property
    def drawn(self) -> list[Contigs]:
        """Records for the plot: all, or some of the viruses and as many of the rest."""
        return [some for some in (self.rest, self.viruses) if some is not None and len(some)]

    def add(self, contigs: Contigs) -> None:
        """Take in some records."""
        self.records += len(contigs)
        self.shortest_nt = min(self.shortest_nt, int(contigs.length_nt.min(initial=1 << 62)))
        self.longest_nt = max(self.longest_nt, int(contigs.length_nt.max(initial=1)))
        for call, counts in self.histogram.items():
            value = contigs.value[contigs.call == call]
            counts += np.histogram(value[~np.isnan(value)], _BINS, (0, 1))[0]
        for most, (count, highest) in self.q_values.items():
            here = contigs.q_value[contigs.q_value <= most]
            self.q_values[most] = count + len(here), max(highest, float(here.max(initial=0)))
        scored = contigs.take(~np.isnan(contigs.value))
        self.highest = _first(self.highest, scored, lambda found: -found.value)
        sure = scored.take(np.isin(scored.call, (VIRUS, OTHERS)) & ~np.isnan(scored.margin))
        self.nearest = _first(self.nearest, sure, lambda found: np.abs(found.margin))

    def _draw(self, contigs: Contigs, keys: dict[bool, Floats], rng: np.random.Generator) -> None:
        """Keep the records with the smallest of random keys: each is as likely as another."""
        key = rng.random(len(contigs))
        scored = ~np.isnan(contigs.value)
        for is_virus, name in ((True, "viruses"), (False, "rest")):
            chosen = scored & ((contigs.call == VIRUS) == is_virus)
            kept, new = getattr(self, name), contigs.take(chosen)
            both = new if kept is None else kept.joined(new)
            keys[is_virus] = np.append(keys[is_virus], key[chosen])
            order = np.argsort(keys[is_virus], kind="stable")[:_DRAWN]
            keys[is_virus] = keys[is_virus][order]
            setattr(self, name, both.take(order))


def _first(kept: Contigs | None, new: Contigs, key: Any) -> Contigs:
    """Those with the smallest keys; of equal ones the earlier."""
    both = new if kept is None else kept.joined(new)
    return both.take(np.argsort(key(both), kind="stable")[:_LISTED])
