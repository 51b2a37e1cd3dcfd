"""How good a model set is: on chunks of test genes, on test genes, pseudo-contigs and genomes.

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
from virnuc_dask.training.contigs import Score, contig_scores, pseudo_contigs
from virnuc_dask.training.figures import (
    Flags,
    Floats,
    auroc,
    error_rates,
    gc_content,
    means,
    quality,
    within_strata,
)
from virnuc_dask.training.genes import OTHER, TEST, TRANSCRIPT, Exclusions, Gene, read_genes
from virnuc_dask.training.windows import shuffle

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


def full_chunks(genes: Sequence[Gene], chunk_length: int) -> tuple[list[str], NDArray[np.int64]]:
    """Chunks of exactly ``chunk_length`` by the run's own rule, and the index of each's gene."""
    chunks = [
        (gene.dna[start:end], index)
        for index, gene in enumerate(genes)
        for start, end in chunk_spans(len(gene.dna), chunk_length)
        if end - start == chunk_length
    ]
    return [dna for dna, _ in chunks], np.array([index for _, index in chunks], np.int64)


def gene_quality(score: Score, genes: Sequence[Gene], chunk_length: int) -> dict[str, Any]:
    """Quality on chunks, also against each kind of others alone, and on whole genes."""
    chunks, gene_of = full_chunks(genes, chunk_length)
    scores = score(chunks)
    kind = np.array([gene.kind for gene in genes])[gene_of]
    is_virus = np.array([gene.is_virus for gene in genes], np.bool_)
    figures: dict[str, Any] = {"chunks": quality(scores, is_virus[gene_of])}
    within = _auroc_within_gc(scores, is_virus[gene_of], chunks)
    figures["chunks"]["auroc_within_gc"] = within
    for others in (OTHER, TRANSCRIPT):
        kept = is_virus[gene_of] | (kind == others)
        if (kind == others).any():
            figures[f"chunks_against_{others}"] = quality(scores[kept], is_virus[gene_of][kept])
    figures["genes"] = quality(means(scores, gene_of, len(genes)), is_virus)
    return figures


def pseudo_contig_quality(
    score: Score, genes: Sequence[Gene], chunk_length: int, threshold: float
) -> dict[str, Any]:
    """AUROC and error rates on the genes' pseudo-contigs, called by ``threshold``."""
    contigs = pseudo_contigs(genes)
    scores, _ = contig_scores(score, [contig.dna for contig in contigs], chunk_length)
    is_virus = np.array([contig.is_virus for contig in contigs], np.bool_)
    scored = ~np.isnan(scores)
    missed, false = error_rates(scores[scored], is_virus[scored], threshold)
    return {
        "n_virus": int(is_virus.sum()),
        "n_others": int((~is_virus).sum()),
        "sources_of_virus": len({contig.source for contig in contigs if contig.is_virus}),
        "n_unscored": int((~scored).sum()),
        "auroc": round(auroc(scores[scored], is_virus[scored]), 4),
        "auroc_within_gc": _auroc_within_gc(scores, is_virus, [contig.dna for contig in contigs]),
        "missed_of_virus": round(missed, 4),
        "called_of_others": round(false, 4),
        "balanced_error": round((missed + false) / 2, 4),
    }


def _auroc_within_gc(scores: Floats, is_virus: Flags, texts: Sequence[str]) -> float | None:
    gc = np.array([gc_content(dna) for dna in texts])
    scored = ~np.isnan(scores)
    mean = within_strata(auroc, scores[scored], is_virus[scored], gc[scored])
    return None if mean is None else round(mean, 4)


def shuffled_quality(score: Score, genes: Sequence[Gene], chunk_length: int) -> dict[str, Any]:
    """How often shuffled chunks of the genes are called virus, of those with an open frame."""
    rng = np.random.default_rng(0)
    scores = score([shuffle(dna, rng) for dna in full_chunks(genes, chunk_length)[0]])
    scores = scores[~np.isnan(scores)]
    called = float((scores >= 0.5).mean()) if len(scores) else 0.0
    return {"n": len(scores), "called_virus": round(called, 4)}


def genome_quality(
    score: Score, fasta: Path, chunk_length: int, threshold: float
) -> dict[str, float | int]:
    """How many contigs of at least `SHORTEST_CONTIG_NT` are called virus by ``threshold``."""
    contigs = [record.dna for record in read_records([str(fasta)])]
    contigs = [dna for dna in contigs if len(dna) >= SHORTEST_CONTIG_NT]
    if not contigs:
        return {"contigs": 0}
    scores, of_chunks = contig_scores(score, contigs, chunk_length)
    called = np.flatnonzero(scores >= threshold)
    return {
        "contigs": len(contigs),
        "called_virus": len(called),
        "nt_of_contigs": sum(map(len, contigs)),
        "nt_called_virus": sum(len(contigs[index]) for index in called),
        "highest_score": round(float(np.nanmax(scores)), 4),
        "median_score": round(float(np.nanmedian(scores)), 4),
        "chunks_called_virus": round(float((of_chunks[~np.isnan(of_chunks)] >= 0.5).mean()), 4),
    }


def validate(folder: Path, genes: Sequence[Gene]) -> dict[str, Any]:
    """The figures that choose between recipes, on validation genes, by chunk length."""
    info = read_info(folder)
    score, threshold = _load(folder, info)
    sample = _sample(genes)
    return {
        str(length): {
            "chunks": gene_quality(score, sample, length)["chunks"],
            "contigs": pseudo_contig_quality(score, genes, length, threshold),
        }
        for length in info.chunk_lengths
    }


def evaluate(
    folder: Path, test_genes: Sequence[Gene], genomes: Sequence[Path] = ()
) -> dict[str, Any]:
    """All figures of the model set in ``folder``, by chunk length."""
    info = read_info(folder)
    score, threshold = _load(folder, info)
    genes = _sample(test_genes)
    return {
        "modelset": {"name": info.name, "version": info.version, "checksum": info.checksum},
        "contig_threshold": threshold,
        "by_chunk_length": {
            str(length): {
                **gene_quality(score, genes, length),
                "contigs": pseudo_contig_quality(score, test_genes, length, threshold),
                "shuffled": shuffled_quality(score, genes, length),
                "genomes": {
                    path.name: genome_quality(score, path, length, threshold) for path in genomes
                },
            }
            for length in info.chunk_lengths
        },
        "short_reads": {str(READ_NT): gene_quality(score, genes, READ_NT)["chunks"]},
    }


def _load(folder: Path, info: ModelSetInfo) -> tuple[Score, float]:
    verify(folder, info)
    return Scorer.load(folder, info).score, info.contig_threshold


def _sample(genes: Sequence[Gene]) -> list[Gene]:
    """All genes but of `OTHER` at most `MOST_OTHER_GENES`, always the same ones."""
    others = np.array([index for index, gene in enumerate(genes) if gene.kind == OTHER])
    kept = set(np.random.default_rng(0).permutation(others)[:MOST_OTHER_GENES].tolist())
    return [g for index, g in enumerate(genes) if g.kind != OTHER or index in kept]


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
