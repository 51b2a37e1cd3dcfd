"""``pairs.tsv``: a line a pair of reads, called as one record that has the chunks of both mates."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.outputs.contigs import read_records, side_by_side
from virnuc_dask.outputs.fields import header, lines, text_table
from virnuc_dask.outputs.totals import WRITTEN, CallCounts
from virnuc_dask.sequences.mates import pair_id
from virnuc_dask.stages.calls import (
    OTHERS,
    UNSCORED,
    UNSURE,
    VIRUS,
    CallRule,
    ContigCalls,
    ContigScores,
    RecordScores,
)
from virnuc_dask.stages.gene_calls import GeneScores
from virnuc_dask.tables import schemas
from virnuc_dask.tables.on_disk import RecordRows
from virnuc_dask.tables.plan import Plan

# Where a record goes: its pair, or itself, counted from 0; and how far its places move.
_PLACE = np.dtype([("pair", np.int64), ("shift_nt", np.int64)])


def as_pairs(records: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """A row a pair, or a record that is in none, in the order of ``records``.

    ``record_index`` and ``mate`` are those of the first mate, ``length_2`` is null where there is
    no second one.
    """
    for table in _uncut(records):
        mate, length = (table[name].to_numpy() for name in ("mate", "length_nt"))
        first = np.flatnonzero(mate != 2)
        has_two = mate[first] == 1
        second = [pa.array(np.append(length, 0)[first + 1], mask=~has_two)]
        kept = table.select(["record_index", "record_id", "sample", "mate"]).take(pa.array(first))
        yield kept.append_column("length_1", [length[first]]).append_column("length_2", second)


def _uncut(records: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, cut where no pair is."""
    held: list[pa.Table] = []
    for piece in filter(len, records):
        table = pa.concat_tables([*held, piece])
        end = len(table) - (table["mate"][-1].as_py() == 1)
        yield table.slice(0, end)
        held = [table.slice(end)]
    yield from held


class PairScores:
    """Gives ``scores``, of rows of `as_pairs`, the chunks and rows of both mates as one record's.

    The second mate's lie behind the first one's. ``records`` are rows of `schemas.RECORDS`,
    ``folder`` is as of `RecordRows`.
    """

    def __init__(self, records: Iterable[pa.Table], scores: RecordScores, folder: Path) -> None:
        self._scores = scores
        self._places = RecordRows(_places(records), _PLACE, folder)
        self.calls = scores.calls

    def add(self, chunks: pa.Table, predictions: pa.Table | None) -> None:
        """Take in a partition's calls, and its predictions."""
        first, last = (chunks["record_index"][at].as_py() for at in (0, -1))
        places = self._places.within(first, last)
        if predictions is not None and "record_index" in predictions.column_names:
            predictions = _moved(predictions, places, first)
        self._scores.add(_moved(chunks, places, first), predictions)
        self._places.end(last)


def _places(records: Iterable[pa.Table]) -> Iterator[NDArray[np.void]]:
    done = 0
    for table in _uncut(records):
        second = table["mate"].to_numpy() == 2
        places = np.zeros(len(table), _PLACE)
        places["pair"] = done + np.cumsum(~second) - 1
        places["shift_nt"] = np.where(second, np.roll(table["length_nt"].to_numpy(), 1), 0)
        done += int(np.count_nonzero(~second))
        yield places


def _moved(table: pa.Table, places: NDArray[np.void], first: int) -> pa.Table:
    of = places[table["record_index"].to_numpy() - first]
    columns = {name: table[name].to_numpy() + of["shift_nt"] for name in ("start", "end")}
    for name, values in (columns | {"record_index": of["pair"]}).items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return table


def pair_scores(plan: Plan, rule: CallRule) -> list[PairScores]:
    """What sums up pairs, of a run that has any."""
    folder, counts = plan.folder.path, plan.counts
    if not counts.pairs and not counts.lone_mates:
        return []
    scores: RecordScores
    if (model := rule.contig_model) is None:
        scores = ContigScores(counts.records - counts.pairs, rule, folder)
    else:
        # Both mates together look like no record that a model set was trained on.
        rule = replace(rule, reliable=0.0)
        by_genes = plan.decisions.reads_genes
        scores = GeneScores(_lengths(plan), rule, model, reads_genes=by_genes, folder=folder)
    return [PairScores(read_records(plan), scores, folder)]


def _lengths(plan: Plan) -> Iterator[NDArray[np.int64]]:
    """Letters of both mates of each pair."""
    for rows in as_pairs(read_records(plan)):
        yield rows["length_1"].to_numpy() + rows["length_2"].fill_null(0).to_numpy()


def write_pairs(plan: Plan, calls: Iterator[ContigCalls], called: CallCounts) -> dict[str, int]:
    """Write ``pairs.tsv``, and count calls; a pair is unsure if one of its mates is.

    What is written of both mates follows from what their pair is called.
    """
    first = next(calls)
    unsure, viral = [UNSURE] if first.rule.contig_model else [], WRITTEN.index(VIRUS)
    counts = dict.fromkeys((VIRUS, OTHERS, UNSCORED, *unsure), 0)
    with text_table(plan.folder.output("pairs.tsv"), header(schemas.PAIRS)) as stream:
        pairs, joint_calls = as_pairs(read_records(plan)), itertools.chain([first], calls)
        for table, joint in side_by_side(pairs, joint_calls):
            index, mate = (table[name].to_numpy() for name in ("record_index", "mate"))
            is_read, second = mate != 0, index + (mate == 1)
            is_unsure = called.is_unsure[index] | called.is_unsure[second]
            call = np.where(is_unsure, UNSURE, joint.call)
            stream.write(lines(_pair_table(table, replace(joint, call=call)).filter(is_read)))
            for mates in (index[is_read], second[is_read]):
                kept = np.where(called.written[mates] == viral, 0, called.written[mates])
                called.written[mates] = np.where(call[is_read] == VIRUS, viral, kept)
            for kind in counts:
                counts[kind] += int(np.count_nonzero(is_read & (call == kind)))
    return counts


def _pair_table(rows: pa.Table, calls: ContigCalls) -> pa.Table:
    """Rows of `schemas.PAIRS`, for rows of `as_pairs` and their calls; numbers as of contigs."""
    columns = {name: rows[name].combine_chunks() for name in ("sample", "length_1", "length_2")}
    columns["pair_id"] = pa.array(map(pair_id, rows["record_id"].to_pylist()), pa.string())
    columns |= {name: getattr(calls, name) for name in schemas.PAIRS.names[4:]}
    # What is not a number is null.
    arrays = [pa.array(columns[f.name], f.type, from_pandas=True) for f in schemas.PAIRS]
    return pa.table(arrays, schema=schemas.PAIRS)
