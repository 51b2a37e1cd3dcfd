"""How good a model set is: on chunks of test genes, on whole test genes, and on whole genomes.

``python -m virnuc_dask.training.evaluate`` writes one JSON file with all figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.encoders.encoder import Encoder, Placement, load_encoder
from virnuc_dask.modelsets.classifier import Classifier, load_classifier
from virnuc_dask.modelsets.registry import ModelSetInfo, read_info, verify
from virnuc_dask.sequences.chunks import chunk_spans
from virnuc_dask.sequences.frames import find_frames
from virnuc_dask.sequences.records import read_records
from virnuc_dask.training.genes import OTHER, TEST, TRANSCRIPT, Exclusions, Gene, read_genes
from virnuc_dask.training.windows import shuffle

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

# Enough for a standard error of the AUROC below 0.002, and evaluated in a minute.
MOST_OTHER_GENES = 20_000
SHORTEST_CONTIG_NT = 5_000
READ_NT = 150
_CHUNKS_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class Scorer:
    """A loaded model set that scores chunks."""

    nucleotide: Encoder
    peptide: Encoder
    classifier: Classifier

    @classmethod
    def load(cls, folder: Path, info: ModelSetInfo) -> Self:
        """Load the model set in ``folder`` on the CPU."""
        placement = Placement()
        weights = folder / info.classifier.file
        return cls(
            load_encoder(info.nucleotide, folder, placement),
            load_encoder(info.peptide, folder, placement),
            load_classifier(weights, info.feature_dim, info.classifier.hidden),
        )

    def score(self, chunks: Sequence[str]) -> Floats:
        """(1 + highest virus score - highest others score) / 2; NaN without an open frame."""
        blocks = range(0, len(chunks), _CHUNKS_AT_ONCE)
        scores = [self._score(chunks[start : start + _CHUNKS_AT_ONCE]) for start in blocks]
        return np.concatenate([np.empty(0), *scores])

    def _score(self, chunks: Sequence[str]) -> Floats:
        found = find_frames(chunks)
        counts = np.fromiter(map(len, found), np.int64, len(found))
        frames = [frame for of_chunk in found for frame in of_chunk]
        scores = np.full(len(chunks), np.nan)
        if not frames:
            return scores
        nucleotide = self.nucleotide.embed([frame.dna for frame in frames])
        peptide = self.peptide.embed([frame.peptide for frame in frames])
        of_frame = self.classifier.score(np.hstack([nucleotide, peptide])).astype(np.float64)
        scored = np.flatnonzero(counts)
        starts = (np.cumsum(counts) - counts)[scored]
        highest = np.maximum.reduceat(of_frame, starts)
        scores[scored] = (1 + highest[:, 1] - highest[:, 0]) / 2
        return scores


def auroc(scores: Floats, is_virus: Flags) -> float:
    """Chance that a virus scores above another sequence, ties counting half."""
    values, place = np.unique(scores, return_inverse=True)
    viral = np.bincount(place[is_virus], minlength=len(values))
    others = np.bincount(place[~is_virus], minlength=len(values))
    below = np.cumsum(others) - others
    return float((viral * (below + others / 2)).sum() / (viral.sum() * others.sum()))


def average_precision(scores: Floats, is_virus: Flags) -> float:
    """Mean precision over the recalled viruses; sequences of equal score enter together."""
    values, place = np.unique(-scores, return_inverse=True)
    viral = np.bincount(place[is_virus], minlength=len(values))
    called = np.cumsum(np.bincount(place, minlength=len(values)))
    return float((viral * np.cumsum(viral) / called).sum() / viral.sum())


def quality(scores: Floats, is_virus: Flags) -> dict[str, float | int]:
    """Figures over the scored sequences, NaN being unscored; calls at a score of 0.5."""
    scored = ~np.isnan(scores)
    scores, is_virus = scores[scored], is_virus[scored]
    return {
        "n_virus": int(is_virus.sum()),
        "n_others": int((~is_virus).sum()),
        "n_unscored": int((~scored).sum()),
        "auroc": round(auroc(scores, is_virus), 4),
        "average_precision": round(average_precision(scores, is_virus), 4),
        "called_of_virus": round(float((scores[is_virus] >= 0.5).mean()), 4),
        "called_of_others": round(float((scores[~is_virus] >= 0.5).mean()), 4),
    }


def full_chunks(genes: Sequence[Gene], chunk_length: int) -> tuple[list[str], NDArray[np.int64]]:
    """Chunks of exactly ``chunk_length`` by the run's own rule, and the index of each's gene."""
    chunks = [
        (gene.dna[start:end], index)
        for index, gene in enumerate(genes)
        for start, end in chunk_spans(len(gene.dna), chunk_length)
        if end - start == chunk_length
    ]
    return [dna for dna, _ in chunks], np.array([index for _, index in chunks], np.int64)


def gene_quality(scorer: Scorer, genes: Sequence[Gene], chunk_length: int) -> dict[str, Any]:
    """Quality on chunks, also against each kind of others alone, and on whole genes."""
    chunks, gene_of = full_chunks(genes, chunk_length)
    scores = scorer.score(chunks)
    kind = np.array([gene.kind for gene in genes])[gene_of]
    is_virus = np.array([gene.is_virus for gene in genes], np.bool_)
    figures: dict[str, Any] = {"chunks": quality(scores, is_virus[gene_of])}
    for others in (OTHER, TRANSCRIPT):
        kept = is_virus[gene_of] | (kind == others)
        if (kind == others).any():
            figures[f"chunks_against_{others}"] = quality(scores[kept], is_virus[gene_of][kept])
    figures["genes"] = quality(_means(scores, gene_of, len(genes)), is_virus)
    return figures


def shuffled_quality(scorer: Scorer, genes: Sequence[Gene], chunk_length: int) -> dict[str, Any]:
    """How often shuffled chunks of the genes are called virus, of those with an open frame."""
    rng = np.random.default_rng(0)
    scores = scorer.score([shuffle(dna, rng) for dna in full_chunks(genes, chunk_length)[0]])
    scores = scores[~np.isnan(scores)]
    called = float((scores >= 0.5).mean()) if len(scores) else 0.0
    return {"n": len(scores), "called_virus": round(called, 4)}


def contig_quality(scorer: Scorer, fasta: Path, chunk_length: int) -> dict[str, float | int]:
    """How many contigs of at least `SHORTEST_CONTIG_NT` are called virus."""
    contigs = [record.dna for record in read_records([str(fasta)])]
    contigs = [dna for dna in contigs if len(dna) >= SHORTEST_CONTIG_NT]
    if not contigs:
        return {"contigs": 0}
    spans = [list(chunk_spans(len(dna), chunk_length)) for dna in contigs]
    chunks = [dna[a:b] for dna, of in zip(contigs, spans, strict=True) for a, b in of]
    contig_of = np.repeat(np.arange(len(contigs)), [len(of) for of in spans])
    scores = scorer.score(chunks)
    means = _means(scores, contig_of, len(contigs))
    return {
        "contigs": len(contigs),
        "called_virus": int((means >= 0.5).sum()),
        "nt_of_contigs": sum(map(len, contigs)),
        "nt_called_virus": sum(len(contigs[index]) for index in np.flatnonzero(means >= 0.5)),
        "highest_score": round(float(np.nanmax(means)), 4),
        "median_score": round(float(np.nanmedian(means)), 4),
        "chunks_called_virus": round(float((scores[~np.isnan(scores)] >= 0.5).mean()), 4),
    }


def evaluate(
    folder: Path, test_genes: Sequence[Gene], genomes: Sequence[Path] = ()
) -> dict[str, Any]:
    """All figures of the model set in ``folder``, by chunk length."""
    info = read_info(folder)
    verify(folder, info)
    scorer = Scorer.load(folder, info)
    genes = _sample(test_genes)
    return {
        "modelset": {"name": info.name, "version": info.version, "checksum": info.checksum},
        "by_chunk_length": {
            str(length): {
                **gene_quality(scorer, genes, length),
                "shuffled": shuffled_quality(scorer, genes, length),
                "genomes": {path.name: contig_quality(scorer, path, length) for path in genomes},
            }
            for length in info.chunk_lengths
        },
        "short_reads": {str(READ_NT): gene_quality(scorer, genes, READ_NT)["chunks"]},
    }


def _sample(genes: Sequence[Gene]) -> list[Gene]:
    """All genes but of `OTHER` at most `MOST_OTHER_GENES`, always the same ones."""
    others = np.array([index for index, gene in enumerate(genes) if gene.kind == OTHER])
    kept = set(np.random.default_rng(0).permutation(others)[:MOST_OTHER_GENES].tolist())
    return [g for index, g in enumerate(genes) if g.kind != OTHER or index in kept]


def _means(scores: Floats, group_of: NDArray[np.int64], groups: int) -> Floats:
    """Mean of the scores that are not NaN, by group; NaN for a group without one."""
    scored = ~np.isnan(scores)
    counts = np.bincount(group_of[scored], minlength=groups)
    sums = np.bincount(group_of[scored], weights=scores[scored], minlength=groups)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """The options that say which genes there are; the same for training and evaluation."""
    parser.add_argument("--markers", type=Path, required=True, help="MetaPhlAn's markers.fasta")
    parser.add_argument("--exclude-names", type=Path, help="genes never to be used, one a line")
    parser.add_argument(
        "--exclude-similar",
        type=Path,
        nargs="*",
        default=[],
        help="FASTA files; genes that share a 31-mer with them are never used",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Evaluate a model set on the test genes."""
    parser = argparse.ArgumentParser(prog="virnuc_dask.training.evaluate", description=__doc__)
    add_data_options(parser)
    parser.add_argument("--modelset", type=Path, required=True)
    parser.add_argument("--genomes", type=Path, nargs="*", default=[], help="FASTA files")
    parser.add_argument("--report", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(arguments)
    exclusions = Exclusions.read(options.exclude_names, options.exclude_similar)
    gene_set = read_genes(options.markers, exclusions)
    report = evaluate(options.modelset, gene_set.part(TEST), options.genomes)
    report["data"] = {"sha256": gene_set.sha256, "genes": gene_set.counts()}
    options.report.parent.mkdir(parents=True, exist_ok=True)
    options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
