"""Several ways to score the same chunks, side by side: figures, intervals, paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.modelsets.modelset import ModelSet
from virnuc_dask.pretraining.genes import GENOME
from virnuc_dask.pretraining.material import Material
from virnuc_dask.quality.figures import (
    FEWEST_RECORDS,
    RESAMPLES,
    SEED,
    Flags,
    Floats,
    RankedScores,
    interval,
    ranking,
)
from virnuc_dask.sequences.chunks import cut
from virnuc_dask.sequences.records import Record
from virnuc_dask.stages.calls import call_chunks
from virnuc_dask.stages.extract import extract_features
from virnuc_dask.stages.predict import predict_frames
from virnuc_dask.stages.receipt import Stopwatch
from virnuc_dask.tables import schemas

ALL = "all"
FIGURES = ("auroc", "average_precision")
_CHUNKS_AT_ONCE = 1_000

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LabelledChunks:
    """Full-length chunks of genes.

    ``table`` has the rows of `schemas.PARTITION`, whose records are the genes; ``group`` and
    ``gene_is_virus`` are by gene.
    """

    table: pa.Table
    group: NDArray[np.str_]
    gene_is_virus: Flags

    @property
    def gene(self) -> NDArray[np.int64]:
        """The gene of each chunk."""
        genes: NDArray[np.int64] = self.table["record_index"].to_numpy()
        return genes

    @property
    def sequences(self) -> list[str]:
        """The chunks' DNA."""
        return self.table["sequence"].to_pylist()  # type: ignore[no-any-return]

    @property
    def is_virus(self) -> Flags:
        """The label of each chunk."""
        return self.gene_is_virus[self.gene]

    def at_most(self, of_each_class: int) -> LabelledChunks:
        """A fixed random choice of so many chunks of each class."""
        order = np.random.default_rng(SEED).permutation(len(self.table))
        is_virus = self.is_virus[order]
        rows = [order[is_virus == label][:of_each_class] for label in (False, True)]
        table = self.table.take(np.sort(np.concatenate(rows)))
        return LabelledChunks(table, self.group, self.gene_is_virus)


def full_chunks(material: Material, part: str, length: int) -> LabelledChunks:
    """The full-length chunks of the genes of one side of the split, by the run's own rule."""
    genes = [gene for gene in material.parts[part] if gene.kind != GENOME]
    chunks = [
        chunk
        for index, gene in enumerate(genes)
        for chunk in cut(Record(index, gene.name, gene.dna), length)
        if len(chunk.sequence) == length
    ]
    columns = {
        "chunk_id": [chunk.id for chunk in chunks],
        "record_id": [chunk.record_id for chunk in chunks],
        "record_index": [chunk.record_index for chunk in chunks],
        "chunk_number": [chunk.number for chunk in chunks],
        "start": [chunk.start for chunk in chunks],
        "end": [chunk.end for chunk in chunks],
        "sequence": [chunk.sequence for chunk in chunks],
    }
    group = np.array([material.group_of(gene.kind, gene.genome) for gene in genes], np.str_)
    is_virus = np.array([gene.is_virus for gene in genes], np.bool_)
    return LabelledChunks(pa.table(columns, schema=schemas.PARTITION), group, is_virus)


def score_chunks(models: ModelSet, chunks: pa.Table) -> Floats:
    """(1 + score_virus - score_others) / 2 of each chunk, NaN without an open frame.

    By the stages that a run computes.
    """
    scores = [np.empty(0)]
    for start in range(0, len(chunks), _CHUNKS_AT_ONCE):
        block = chunks.slice(start, _CHUNKS_AT_ONCE)
        predictions = predict_frames(extract_features(block, models, Stopwatch()), models)
        calls = call_chunks(block.drop_columns(["sequence"]), predictions)
        virus, others = (
            calls[name].to_numpy().astype(np.float64) for name in ("score_virus", "score_others")
        )
        scores.append((1 + virus - others) / 2)
    return np.concatenate(scores)


class RankedChunks(RankedScores):
    """Scores sorted once; each figure of a resample of the genes is then quick."""

    def average_precision(self, drawn: NDArray[np.int64]) -> float:
        """The average precision when gene i counts ``drawn[i]`` times; ties are called together."""
        viral, others = (
            np.bincount(place, weights=drawn[record], minlength=self._steps)[::-1]
            for place, record in self._sides
        )
        called = np.cumsum(viral + others)
        precision = np.divide(np.cumsum(viral), called, out=np.zeros_like(called), where=called > 0)
        return float((viral * precision).sum() / viral.sum()) if viral.any() else np.nan


def compare(scores: Mapping[str, Floats], chunks: LabelledChunks) -> list[Figures]:
    """Figures of all chunks, then of every viral group against every other group.

    Parameters
    ----------
    scores
        Of each way, by its name, for all chunks. Differences are to the first one.

    Raises
    ------
    ValueError
        If the ways do not score the same chunks: nothing would be comparable.
    """
    scored = [~np.isnan(values) for values in scores.values()]
    if any((other != scored[0]).any() for other in scored):
        raise ValueError("the ways do not score the same chunks")
    everything = np.ones(len(chunks.group), np.bool_)
    found = [_compared(scores, chunks, everything, scored[0]) | {"virus": ALL, "others": ALL}]
    for viral in np.unique(chunks.group[chunks.gene_is_virus]).tolist():
        for others in np.unique(chunks.group[~chunks.gene_is_virus]).tolist():
            among = np.isin(chunks.group, [viral, others])
            names = {"virus": viral, "others": others}
            found.append(_compared(scores, chunks, among, scored[0]) | names)
    return found


def _compared(
    scores: Mapping[str, Floats], chunks: LabelledChunks, among: Flags, scored: Flags
) -> Figures:
    """Figures of the scored chunks of the genes ``among``."""
    rows = among[chunks.gene]
    kept = rows & scored
    is_virus, gene = chunks.is_virus[kept], chunks.gene[kept]
    ranked = [RankedChunks(values[kept], is_virus, gene) for values in scores.values()]
    drawn = resampled(ranked, chunks.gene_is_virus, among & _present(gene, len(among)))
    points = [
        {name: value for name, value in ranking(values[kept], is_virus).items() if name in FIGURES}
        for values in scores.values()
    ]
    return {
        "n_virus": int(is_virus.sum()),
        "n_others": int((~is_virus).sum()),
        "genes": len(np.unique(gene)),
        "unscored": int((rows & ~scored).sum()),
        "ways": {
            name: _with_intervals(points, drawn, number) for number, name in enumerate(scores)
        },
    }


def _with_intervals(
    points: Sequence[Mapping[str, float | None]], drawn: Mapping[str, Floats] | None, number: int
) -> Figures:
    """One way's figures, and how far they are above the first way's."""
    found: Figures = {}
    for name in FIGURES:
        value, first = points[number][name], points[0][name]
        found[name] = value
        found[f"{name}_interval"] = None if drawn is None else interval(drawn[name][number])
        if number and value is not None and first is not None:
            found[f"{name}_above_first"] = round(value - first, 6)
            found[f"{name}_above_first_interval"] = (
                None if drawn is None else interval(drawn[name][number] - drawn[name][0])
            )
    return found


def resampled(
    ranked: Sequence[RankedChunks], is_virus: Flags, among: Flags
) -> dict[str, Floats] | None:
    """Each figure over bootstrap resamples of the genes, shape (len(ranked), `RESAMPLES`).

    All of ``ranked`` see the same draws. None with too few genes of a class.
    """
    if min((among & is_virus).sum(), (among & ~is_virus).sum()) < FEWEST_RECORDS:
        return None
    found = {name: np.empty((len(ranked), RESAMPLES)) for name in FIGURES}
    for resample, drawn in enumerate(_draws(is_virus, among)):
        for number, scores in enumerate(ranked):
            found["auroc"][number, resample] = scores.auroc(drawn)
            found["average_precision"][number, resample] = scores.average_precision(drawn)
    return found


def _draws(is_virus: Flags, among: Flags) -> Iterator[NDArray[np.int64]]:
    """How often each gene is drawn: of each class as many as there are, with replacement."""
    rng = np.random.default_rng(SEED)
    sides = [np.flatnonzero(among & is_virus), np.flatnonzero(among & ~is_virus)]
    for _ in range(RESAMPLES):
        drawn = np.concatenate([rng.choice(side, len(side)) for side in sides])
        yield np.bincount(drawn, minlength=len(is_virus))


def _present(gene: NDArray[np.int64], genes: int) -> Flags:
    return np.bincount(gene, minlength=genes) > 0
