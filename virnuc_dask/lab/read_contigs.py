"""Numbers of contigs whose genes were scored out of fold → a reader of contigs, and its test."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.calibrate_contigs import calibrate, familiarity
from virnuc_dask.lab.chances import chances
from virnuc_dask.lab.contig_fit import Weighers, fit
from virnuc_dask.lab.recipe import (
    NOISE,
    VIRUSES,
    CalibrationSettings,
    ContigSettings,
)
from virnuc_dask.lab.taught import Fragments
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
    evidence: Floats  # by contig; NaN where no part that it is in was left out


def learn_reader(
    contigs: Contigs,
    fragments: Fragments,
    is_taught: Flags,
    settings: ContigSettings,
    calibration: CalibrationSettings,
    seed: int,
) -> Learnt:
    """Fit both models to the contigs that are taught, calibrated by those without each part.

    Those that are not taught, prophages among them, are judged by models without their part too.

    ``is_taught`` is of each fragment.
    """
    kind, group = fragments.judged_kind[contigs.fragment], fragments.group[contigs.fragment]
    of, length = fragments.part[contigs.fragment], contigs.length_nt
    taught_kind = np.where(is_taught[contigs.fragment], kind, "")
    chance = chances(taught_kind, group, settings.shares)
    taught = np.flatnonzero(chance)
    weight = chance * len(taught)
    viral = np.isin(kind, VIRUSES)

    def learn(rows: NDArray[np.int64]) -> Weighers:
        return fit(contigs.features[rows], viral[rows], weight[rows], settings, seed)

    score = np.full(len(of), np.nan)
    for left_out in np.unique(of[taught]):
        weighers = learn(taught[of[taught] != left_out])
        score[of == left_out] = weighers.score(contigs.features[of == left_out])
        log.info("contig model without part %d", left_out)
    judged = chances(np.where(np.isnan(score), "", kind), group, calibration.shares)
    rows = np.flatnonzero(judged)
    lengths, heavy = calibration.lengths_nt, judged[rows] * len(rows)
    curve = calibrate(score[rows], length[rows], viral[rows], heavy, lengths)
    # Noise is no example of what is familiar.
    real = np.where(kind == NOISE, 0, chance)
    drawn = np.random.default_rng(seed).choice(len(of), _FAMILIAR, p=real / real.sum())
    known = familiarity(contigs.features[drawn], length[drawn], lengths)
    reader = Reader(contigs.columns, *learn(taught), curve, known)
    return Learnt(reader, curve.of(score, length))
