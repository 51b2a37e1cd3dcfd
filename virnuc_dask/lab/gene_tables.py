"""pyrodigal-gv's genes of whole genomes → the models of the fast gene caller.

    python -m virnuc_dask.lab.gene_tables GENOMES models.npz

GENOMES holds ``phage.fa.gz``, ``prokaryote.fa.gz``, ``plasmid.fa.gz`` and
``eukaryotic_virus.fa.gz``. What is drawn of them is the same each time.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.fragments import batches
from virnuc_dask.sequences import fast_genes as fast
from virnuc_dask.sequences.fast_genes import Floats, Frames, GeneModels, IntArray, Strand
from virnuc_dask.sequences.genes import PYRODIGAL, START_TYPES, Genes, gene_caller
from virnuc_dask.sequences.records import read_records

# Megabases to draw of each kind: others as much as viruses, or the caller would favour theirs.
DRAWN = {"phage": 9.0, "prokaryote": 14.0, "plasmid": 4.0, "eukaryotic_virus": 1.5}
LENGTHS_NT = (5_000, 10_000, 30_000)
BATCH_NT = 1 << 20
# Chosen by the agreement of stops, and for as many genes as pyrodigal finds: what a nt of overlap
# costs, what neighbours on one strand and on two gain; what is added to the log-odds of a gene.
LINK = (0.03, 1.0, 0.0)
BIAS = 1.2
_BORROWED = 0.3  # of the counts of a GC bin next to it
_PRIOR_PAIRS = 6_000.0  # as if so many pairs had been seen in a bin, their codons independent
_PRIOR_MOTIFS = 10.0

Counts = NDArray[np.float64]


class Lesson(NamedTuple):
    """One strand of some sequences, and pyrodigal's genes of it."""

    strand: Strand
    bins: IntArray
    genes: Genes  # those of this strand, of the code that the fast caller knows
    key: IntArray  # of each: sequence and 3' end, as `_keys` gives them
    begin: IntArray  # of each: where its 5' end lies in the block


class Marked(NamedTuple):
    """Open frames, and which of them pyrodigal calls genes."""

    lesson: Lesson
    frames: Frames
    gene: IntArray  # of each frame: row in the lesson's genes, or -1
    begin: IntArray  # of each frame: the start that pyrodigal chose, or -1


def main() -> None:
    """Fit the models and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("genomes", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="of what is drawn")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    drawn = draw(options.genomes, options.scale)
    models = fit(drawn, gene_caller(PYRODIGAL).find(drawn, options.threads))
    save(models, options.out)


def draw(genomes: Path, scale: float = 1.0, seed: int = 5) -> list[str]:
    """Stretches of the genomes, upper case, `DRAWN` of each kind."""
    rng = random.Random(seed)
    drawn = []
    for kind, megabases in DRAWN.items():
        dna = [record.dna.upper() for record in read_records([str(genomes / f"{kind}.fa.gz")])]
        left = megabases * 1e6 * scale
        for whole in rng.sample(dna, len(dna)):
            if left <= 0:
                break
            length_nt = rng.choice(LENGTHS_NT)
            at = rng.randrange(max(1, len(whole) - length_nt))
            drawn.append(whole[at : at + length_nt])
            left -= len(drawn[-1])
    return drawn


def fit(sequences: Sequence[str], genes: Genes) -> GeneModels:
    """The models that find ``genes`` in upper-case ``sequences`` again."""
    taught = list(lessons(sequences, genes))
    models, marked = _without_weights(taught), []
    for lesson in taught:
        scores = fast.running_scores(lesson.strand, lesson.bins, models)
        marked.append(_mark(lesson, fast.promising(fast.open_frames(lesson.strand, scores))))
    models = replace(models, start=_fit_starts(marked, models))
    models = replace(models, gene=_fit_genes(marked, models))
    return replace(models, units=_fit_units(marked, models))


def save(models: GeneModels, path: Path) -> None:
    """Write them as numpy's arrays, compressed."""
    arrays = {name: getattr(models, name) for name in GeneModels.__slots__}
    small = {n: a if a.dtype == np.int8 else a.astype(np.float32) for n, a in arrays.items()}
    np.savez_compressed(path, allow_pickle=False, **small)


def lessons(sequences: Sequence[str], genes: Genes) -> Iterator[Lesson]:
    """Sequences in batches, a lesson for each strand."""
    for first, last in batches([len(dna) for dna in sequences], BATCH_NT):
        known = (genes.sequence >= first) & (genes.sequence < last)
        known &= genes.translation_table == 11
        forward, reverse = fast.strands_of(sequences[first:last])
        bins = fast.gc_bins(forward)
        ahead = genes.take(np.flatnonzero(known & (genes.strand > 0)))
        row = ahead.sequence - first
        yield _lesson(forward, bins, ahead, row, forward.first[row] + ahead.start)
        back = genes.take(np.flatnonzero(known & (genes.strand < 0)))
        row = last - 1 - back.sequence
        yield _lesson(reverse, bins[::-1], back, row, reverse.last[row] - back.end)


def _lesson(strand: Strand, bins: IntArray, genes: Genes, row: IntArray, begin: IntArray) -> Lesson:
    key = _keys(strand, row, begin + genes.end - genes.start)
    order = np.argsort(key)
    return Lesson(strand, bins, genes.take(order), key[order], begin[order])


def _keys(strand: Strand, row: IntArray, end: IntArray) -> IntArray:
    return row * (len(strand.code) + 1) + end


def _mark(lesson: Lesson, frames: Frames) -> Marked:
    strand = lesson.strand
    place = fast.places(strand, frames.start)
    row = fast.sequence_at(strand, place[frames.first])
    end = fast.places(strand, frames.stop) + 3 * ~frames.cut
    keys = _keys(strand, row, end)
    at = np.minimum(np.searchsorted(lesson.key, keys), len(lesson.key) - 1)
    gene = np.where(lesson.key[at] == keys, at, -1)
    is_open = lesson.genes.start_type == START_TYPES.index("edge")
    of = gene[frames.frame]
    chosen = (of >= 0) & (lesson.begin[of] == place) & (is_open[of] == frames.edge)
    begin = np.full(len(frames.stop), -1)
    begin[frames.frame[chosen]] = np.flatnonzero(chosen)
    return Marked(lesson, frames, gene, begin)


def _without_weights(taught: Sequence[Lesson]) -> GeneModels:
    """Log-odds of pairs, motifs and bases; nothing weighs them yet."""
    pairs = np.zeros((2, fast.GC_BINS, fast.CODONS**2))
    motifs = np.zeros((2, len(fast.SPACERS), 4097))
    bases = np.zeros((2, fast.UPSTREAM_NT, 5))
    for lesson in taught:
        nothing = np.zeros(len(lesson.strand.layout), np.int32)
        marked = _mark(lesson, fast.open_frames(lesson.strand, nothing))
        pairs += _count_pairs(marked)
        for is_chosen, place in enumerate(_other_and_chosen_starts(marked)):
            for row, column in enumerate(fast.motif_rows(lesson.strand, place).T):
                motifs[is_chosen, row] += np.bincount(column, minlength=4097)
            for row, column in enumerate(fast.bases_before(lesson.strand, place).T):
                bases[is_chosen, row] += np.bincount(column, minlength=5)
    motif, spacer = _log_odds_of_motifs(motifs)
    upstream = np.diff(np.log((bases + 5) / (bases + 5).sum(2, keepdims=True)), axis=0)[0]
    upstream[:, 4] = 0
    return GeneModels(
        pairs=_log_odds_of_pairs(pairs),
        motif=motif.astype(np.float32),
        spacer=spacer.astype(np.float32),
        upstream=upstream.astype(np.float32),
        start=np.zeros(8, np.float32),
        gene=np.zeros(12, np.float32),
        link=np.array(LINK, np.float32),
        units=np.zeros((5, 3), np.float32),
    )


def _count_pairs(marked: Marked) -> Counts:
    """Of codon pairs in frames that are no genes, and in genes."""
    lesson, frames = marked.lesson, marked.frames
    rows = fast.bins_of_layout(lesson.strand, lesson.bins) * fast.CODONS**2
    rows = rows + fast.pair_rows(lesson.strand)
    counts = []
    is_other, is_gene = np.flatnonzero(marked.gene < 0), np.flatnonzero(marked.begin >= 0)
    for of, begin in ((is_other, frames.first[is_other]), (is_gene, marked.begin[is_gene])):
        depth = np.zeros(len(rows) + 1, np.int32)
        np.add.at(depth, frames.start[begin], 1)
        np.add.at(depth, frames.stop[of], -1)
        inside = np.cumsum(depth)[:-1] > 0
        counts.append(np.bincount(rows[inside], minlength=fast.GC_BINS * fast.CODONS**2))
    return np.array(counts, np.float64).reshape(2, fast.GC_BINS, fast.CODONS**2)


def _other_and_chosen_starts(marked: Marked) -> tuple[IntArray, IntArray]:
    """Places of starts in genes that have one: those not chosen, and those chosen."""
    frames = marked.frames
    begin = marked.begin[frames.frame]
    in_whole = (begin >= 0) & ~frames.edge[np.maximum(begin, 0)] & ~frames.edge
    is_chosen = begin == np.arange(len(frames.start))
    place = fast.places(marked.lesson.strand, frames.start)
    return place[in_whole & ~is_chosen], place[in_whole & is_chosen]


def _log_odds_of_pairs(counts: Counts) -> NDArray[np.int8]:
    mixed = counts + 0.01 * counts.sum(1, keepdims=True)
    mixed[:, 1:] += _BORROWED * counts[:, :-1]
    mixed[:, :-1] += _BORROWED * counts[:, 1:]
    mixed = mixed.reshape(2, fast.GC_BINS, fast.CODONS, fast.CODONS)
    alone = (mixed.sum(3, keepdims=True) + 0.5) * (mixed.sum(2, keepdims=True) + 0.5)
    mixed = mixed + _PRIOR_PAIRS * alone / alone.sum((2, 3), keepdims=True)
    odds = np.diff(np.log(mixed / mixed.sum((2, 3), keepdims=True)), axis=0)[0]
    odds[:, -1] = odds[:, :, -1] = 0  # unknown codons
    units: NDArray[np.int8] = np.round(odds / fast.PAIR_UNIT).clip(-127, 127).astype(np.int8)
    return units.reshape(fast.GC_BINS, fast.CODONS**2)


def _log_odds_of_motifs(counts: Counts) -> tuple[Counts, Counts]:
    """Of six bases, and of how far they are from the start, each given the other."""
    spacer = np.zeros(len(fast.SPACERS))
    seen = counts.sum((0, 1))
    prior = _PRIOR_MOTIFS * (seen + 1) / seen.mean() / 4097 * len(fast.SPACERS)
    for _ in range(4):
        weighed = (counts * np.exp(spacer)[None, :, None]).sum(1) + prior
        motif = np.diff(np.log(weighed / weighed.sum(1, keepdims=True)), axis=0)[0]
        motif[4096] = -9
        strong = np.maximum(np.exp(motif) - 1, 0)
        share = ((counts * strong).sum(2) + 1) / counts.sum(2)
        spacer = np.diff(np.log(share), axis=0)[0]
        spacer -= spacer.max()
    return motif, spacer


def _fit_starts(marked: Sequence[Marked], models: GeneModels) -> Floats:
    """Weights by which pyrodigal's starts are told from others of their frames."""
    features, chosen = [], []
    for one in marked:
        begin = one.begin[one.frames.frame]
        rows = np.flatnonzero(begin >= 0)
        columns = fast.start_features(one.lesson.strand, one.frames, models)
        features.append(np.stack(columns, 1)[rows])
        chosen.append(begin[rows] == rows)
    return _logistic(features, chosen, constant=False)[0]


def _fit_genes(marked: Sequence[Marked], models: GeneModels) -> Floats:
    features = []
    for (strand, bins, *_), frames, *_ in marked:
        score = fast.weighed(fast.start_features(strand, frames, models), models.start)
        chosen = fast.chosen_starts(frames, score)
        row = fast.sequence_at(strand, fast.places(strand, frames.start[chosen]))
        features.append(np.stack(fast.gene_features(frames, chosen, score, bins[row]), 1))
    weights, constant = _logistic(features, [one.gene >= 0 for one in marked], constant=True)
    return np.append(weights, np.float32(constant + BIAS))


def _logistic(
    of: Sequence[Floats], truth: Sequence[NDArray[np.bool_]], constant: bool
) -> tuple[Floats, float]:
    from sklearn.linear_model import LogisticRegression

    features = np.concatenate(of)
    spread = features.std(0) + 1e-6
    middle = features.mean(0) if constant else np.zeros_like(spread)
    fitted = LogisticRegression(C=10.0, max_iter=1000, fit_intercept=constant)
    fitted.fit((features - middle) / spread, np.concatenate(truth))
    weights = fitted.coef_[0] / spread
    return weights.astype(np.float32), float(np.sum(fitted.intercept_) - weights @ middle)


def _fit_units(marked: Sequence[Marked], models: GeneModels) -> Floats:
    """What makes pyrodigal's scores of ours: see `fast_genes._describe`."""
    ours: list[NDArray[np.float64]] = []
    theirs: list[Genes] = []
    for lesson, frames, gene, begin in marked:
        found = np.flatnonzero(begin >= 0)
        at = begin[found]
        features = fast.start_features(lesson.strand, frames, models)
        codons = frames.stop[found] - frames.start[at]
        columns = [frames.coding[at], codons, features[4][at], features[5][at]]
        ours.append(np.stack([*columns, np.ones(len(found))], 1, dtype=np.float64))
        theirs.append(lesson.genes.take(gene[found]))
    table = np.concatenate(ours)

    def of(name: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(genes, name) for genes in theirs]).astype(np.float64)

    kind = of("start_type")
    whole = kind != START_TYPES.index("edge")

    def linear(name: str, columns: list[int], rows: NDArray[np.bool_]) -> Any:
        return np.linalg.lstsq(table[rows][:, columns], of(name)[rows], rcond=None)[0]

    has_rbs = of("rbs")[whole].mean()
    types = [of("type_score")[kind == number].mean() for number in range(4)]
    rows = [
        linear("coding_score", [0, 1, 4], np.ones(len(table), np.bool_)),
        linear("rbs_score", [2, 3, 4], whole),
        linear("upstream_score", [2, 3, 4], whole),
        types[:3],
        [types[3], np.quantile(table[whole, 2], 1 - has_rbs), 0.0],
    ]
    return np.array(rows, np.float32)


if __name__ == "__main__":
    main()
