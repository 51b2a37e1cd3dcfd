"""``contigs.tsv``, read piece by piece, and what a page shows of its records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.errors import BadTableError
from virnuc_dask.modelsets.calibration import Floats
from virnuc_dask.outputs.contig_table import read_contig_table
from virnuc_dask.stages.calls import UNSCORED, UNSURE, VIRUS, CallRule

_NUMBERS = ("score", "probability", "q_value")
_ROWS = 1 << 16  # records taken in at a time
_LISTED = 20
_DRAWN = 2_000  # viruses, and as many of the rest
_BINS = 40
_SEED = 0
Q_VALUES = (0.01, 0.05, 0.1, 0.2, 0.5)

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
    sample: NDArray[Any]  # None where the table has no samples
    score: Floats
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
    try:
        for batch in read_contig_table(path):
            for at in range(0, len(batch), _ROWS):
                some = batch.slice(at, _ROWS)
                yield _contigs(some, first, rule)
                first += len(some)
    except KeyError as error:
        raise BadTableError(f"{path}: cannot be read ({error}).") from error


def _contigs(batch: pa.RecordBatch, first: int, rule: CallRule) -> Contigs:
    length = batch["length_nt"].to_numpy().astype(np.int64)
    score, chance, q_value = (batch[name].to_numpy(zero_copy_only=False) for name in _NUMBERS)
    ids, call = (batch[name].to_numpy(zero_copy_only=False) for name in ("record_id", "call"))
    value = chance if rule.has_probability else score
    if rule.fdr is not None:
        margin = rule.fdr - q_value
    else:
        margin = value - (rule.threshold(length) if rule.contig_model is not None else 0.5)
    sample = np.full(len(batch), None)
    if "sample" in batch.schema.names:
        sample = batch["sample"].to_numpy(zero_copy_only=False)
    row = np.arange(len(batch)) + first
    return Contigs(row, ids, call, length, sample, score, value, q_value, margin)


@dataclass
class Digest:
    """What a page shows of all records: its size does not depend on their number."""

    by: str  # what the calls go by: "probability" or "score"
    has_both: bool = False  # whether records have a score besides their probability
    records: int = 0
    shortest_nt: int = 1 << 62
    longest_nt: int = 1
    lowest_virus: float = np.nan  # the least value of a record that is called virus
    calls: Counter[str] = field(default_factory=Counter)  # records by call
    nt: Counter[str] = field(default_factory=Counter)  # by call
    samples: Counter[tuple[str, str]] = field(default_factory=Counter)  # records by sample, call
    # "score" or "probability": call: records by value
    histograms: dict[str, dict[str, Rows]] = field(default_factory=dict)
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
        # With a contig model the probability is the score.
        both = rule.calibration is not None and rule.contig_model is None
        digest = cls("probability" if rule.has_probability else "score", both)
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
        virus = contigs.value[contigs.call == VIRUS]
        self.lowest_virus = float(np.fmin(self.lowest_virus, virus.min(initial=np.inf)))
        for call in sorted(set(contigs.call.tolist())):
            self._count(call, contigs.take(contigs.call == call))
        if len(contigs) and contigs.sample[0] is not None:
            self.samples.update(zip(contigs.sample.tolist(), contigs.call.tolist(), strict=True))
        for most, (count, highest) in self.q_values.items():
            here = contigs.q_value[contigs.q_value <= most]
            self.q_values[most] = count + len(here), max(highest, float(here.max(initial=0)))
        scored = contigs.take(~np.isnan(contigs.value))
        self.highest = _first(self.highest, scored, lambda found: -found.value)
        sure = scored.take((scored.call != UNSURE) & ~np.isnan(scored.margin))
        self.nearest = _first(self.nearest, sure, lambda found: np.abs(found.margin))

    def _count(self, call: str, contigs: Contigs) -> None:
        """Take in records of one call."""
        self.calls[call] += len(contigs)
        self.nt[call] += int(contigs.length_nt.sum())
        if call == UNSCORED:
            return
        measures = {"score": contigs.score} if self.has_both else {}
        for name, value in (measures | {self.by: contigs.value}).items():
            counts = self.histograms.setdefault(name, {})
            more = np.histogram(value[~np.isnan(value)], _BINS, (0, 1))[0]
            counts[call] = counts.get(call, np.zeros(_BINS, np.int64)) + more

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
