"""Numbers of contigs whose genes were scored out of fold → a reader of contigs, and its test."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.calibrate_contigs import calibrate, familiarity
from virnuc_dask.lab.contig_fit import fit
from virnuc_dask.lab.recipe import NOISE, ContigSettings
from virnuc_dask.lab.taught import Fragments
from virnuc_dask.lab.weighed_words import chances
from virnuc_dask.modelsets.contig_features import contig_features
from virnuc_dask.modelsets.contig_model import Reader
from virnuc_dask.modelsets.gene_sums import Floats, GeneColumns, GeneSums

log = logging.getLogger(__name__)

_FAMILIAR = 40_000  # records that tell what is familiar, drawn as they are weighed

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Contigs:
    """Contigs that have genes, or frames: a row each."""

    fragment: NDArray[np.int64]  # row in the fragments
    length_nt: Floats
    features: Floats
    columns: int  # of evidence

    @classmethod
    def of(
        cls,
        genes: GeneColumns,
        record: NDArray[np.int64],
        fragment: NDArray[np.int64],
        length_nt: Floats,
    ) -> Contigs:
        """Sum genes by ``record``, ascending; the others are by that number."""
        sums = GeneSums.of(genes, record)
        length = length_nt[sums.record_index]
        features = contig_features(sums, length)
        return cls(fragment[sums.record_index], length, features, genes.evidence.shape[1])


@dataclass(frozen=True, slots=True)
class Learnt:
    """A reader, and the evidence of each contig by models that had not seen its part."""

    reader: Reader
    evidence: Floats  # by contig; NaN where it was not learnt from


def learn_reader(
    contigs: Contigs,
    fragments: Fragments,
    part: NDArray[np.int8],
    is_taught: Flags,
    settings: ContigSettings,
    lengths_nt: tuple[int, ...],
    seed: int,
) -> Learnt:
    """Fit both models to the contigs that are taught, calibrated by those without each part.

    Parameters
    ----------
    part, is_taught
        Of each fragment.
    """
    kind, group = fragments.kind[contigs.fragment], fragments.group[contigs.fragment]
    taught = np.flatnonzero(is_taught[contigs.fragment])
    chance = chances(kind[taught], group[taught], asdict(settings.shares))
    taught, chance = taught[chance > 0], chance[chance > 0]
    weight = chance * len(taught)
    features, is_virus = contigs.features[taught], fragments.is_virus[contigs.fragment[taught]]
    of = part[contigs.fragment[taught]]
    score = np.empty(len(taught))
    for left_out in np.unique(of):
        seen = of != left_out
        weighers = fit(features[seen], is_virus[seen], weight[seen], settings, seed)
        score[~seen] = weighers.score(features[~seen])
        log.info("contig model without part %d", left_out)
    weighers = fit(features, is_virus, weight, settings, seed)
    length = contigs.length_nt[taught]
    curve = calibrate(score, length, is_virus, weight, lengths_nt)
    # Noise is no example of what is familiar.
    real = chance * (kind[taught] != NOISE)
    drawn = np.random.default_rng(seed).choice(len(taught), _FAMILIAR, p=real / real.sum())
    known = familiarity(features[drawn], length[drawn], lengths_nt)
    evidence = np.full(len(contigs.fragment), np.nan)
    evidence[taught] = curve.of(score, length)
    return Learnt(Reader(contigs.columns, *weighers, curve, known), evidence)
