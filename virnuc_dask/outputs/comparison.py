"""Two runs of the same records: which are called otherwise, and what differs between the runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from virnuc_dask.outputs.contig_table import read_contig_table
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.on_disk import SortedRows
from virnuc_dask.tables.plan import DECISION_NAMES, Plan, read_finished

_OF_WORK = ("partition_chunks", "partition_nt")  # decisions that no call depends on


class CalledRecord(NamedTuple):
    """A record of a run; ``key`` is the same for the same record of two runs."""

    key: str
    record_id: str
    length_nt: int
    call: str
    score: float | None
    probability: float | None

    @property
    def value(self) -> float:
        """What its call goes by, 0 where nothing was scored."""
        return (self.score if self.probability is None else self.probability) or 0.0


Pair = tuple[CalledRecord | None, CalledRecord | None]
_TYPES = (pa.string(), pa.string(), pa.int64(), pa.string(), pa.float64(), pa.float64())
_SCHEMA = pa.schema(zip(CalledRecord._fields, _TYPES, strict=True))
MISSING = "missing"


@dataclass
class Comparison:
    """How the calls of two finished runs differ; counts stand when `differing` has been read.

    Records are joined by their place where both runs read the same input, else by id and length,
    those that share both in their order; on disk, so that memory is bounded. `BadTableError` if one
    is no finished run, or its ``contigs.tsv`` is damaged.
    """

    one: RunFolder
    other: RunFolder
    causes: Mapping[str, tuple[Any, Any]] = field(init=False)  # what decides calls, and differs
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)  # records; `MISSING` is a call
    values_differ: int = 0  # scores or probabilities
    largest_change: float = 0.0

    def __post_init__(self) -> None:
        mine, theirs = (_decided(*read_finished(folder)) for folder in (self.one, self.other))
        pairs = {name: (mine.get(name), theirs.get(name)) for name in mine | theirs}
        self.causes = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    def differing(self) -> Iterator[Pair]:
        """Records that are called otherwise, or that one run alone has."""
        for one, other in self._pairs():
            calls = (one.call if one else MISSING, other.call if other else MISSING)
            self.calls[calls] += 1
            if one and other and one[-2:] != other[-2:]:
                self.values_differ += 1
                self.largest_change = max(self.largest_change, abs(one.value - other.value))
            if calls[0] != calls[1]:
                yield one, other

    def _pairs(self) -> Iterator[Pair]:
        folders = (self.one, self.other)
        if "input" in self.causes:
            return _joined(*(_rows(_sorted(folder)) for folder in folders))
        mine, theirs = (_rows(_tables(folder)) for folder in folders)
        return zip_longest(mine, theirs)


def why(one: CalledRecord | None, other: CalledRecord | None) -> str:
    """Why a record is called otherwise; ``threshold``: its values are the same."""
    if one is None or other is None:
        return MISSING
    return "score" if one[-2:] != other[-2:] else "threshold"


def _decided(plan: Plan, run: Mapping[str, Any]) -> dict[str, Any]:
    """What decided a run's calls, by its name for people."""
    decisions, modelset = asdict(plan.decisions), run["modelset"]
    shown = {name: decisions[key] for key, name in DECISION_NAMES.items() if key not in _OF_WORK}
    shown["model set"] = f"{modelset['name']} {modelset['version']} {modelset['checksum'][:12]}"
    shown["contig model"] = modelset.get("contig_model")
    shown["called by"] = run["summary"]["called_by"]
    shown["virnuc_dask"] = run["virnuc_dask"]
    return shown


def _rows(tables: Iterator[pa.Table]) -> Iterator[CalledRecord]:
    for table in tables:
        columns = (column.to_pylist() for column in table.columns)
        yield from map(CalledRecord._make, zip(*columns, strict=True))


def _tables(folder: RunFolder) -> Iterator[pa.Table]:
    for table in read_contig_table(folder.output("contigs.tsv"), CalledRecord._fields[1:]):
        lengths = table["length_nt"].cast(pa.string())
        key = pc.binary_join_element_wise(table["record_id"], lengths, "\t")
        yield pa.table([key, *table.columns], schema=_SCHEMA)


def _sorted(folder: RunFolder) -> Iterator[pa.Table]:
    rows = SortedRows(_SCHEMA)
    for table in _tables(folder):
        rows.add(table)
    return rows.merged()


def _joined(ones: Iterator[CalledRecord], others: Iterator[CalledRecord]) -> Iterator[Pair]:
    """Rows of both, which are sorted by their keys, side by side."""
    one, other = next(ones, None), next(others, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.key < other.key):
            yield one, None
            one = next(ones, None)
        elif one is None or other.key < one.key:
            yield None, other
            other = next(others, None)
        else:
            yield one, other
            one, other = next(ones, None), next(others, None)
