"""Scores of contigs that no model has seen → what a score is worth, and what is familiar."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from virnuc_dask.modelsets.contig_model import ByLength, Familiarity
from virnuc_dask.modelsets.gene_sums import Floats

_NEAR = 0.45  # natural logarithm of a length: so near is about the same
_FEWEST = 20  # viruses, and others, that a length needs to have a curve
_KNOTS = 33
# Of the others, by score; of the viruses, by falling score. Blocks of scores end there.
_SHARES = np.array(
    [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995]
)
_PSEUDO = 1.0  # contigs of each side, added to every count
_TAIL = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_LEAST_VARIANCE = 1e-3  # of an axis: along the others training records hardly differ
_APART = 1e-9

Flags = NDArray[np.bool_]


def calibrate(
    score: Floats, length_nt: Floats, is_virus: Flags, weight: Floats, lengths_nt: tuple[int, ...]
) -> ByLength:
    """Natural-log likelihood ratios by score, from contigs of about each of these lengths.

    The ratio of viruses to others rises from block to block of scores (isotonic regression: Ayer et
    al., Annals of Mathematical Statistics 26 (1955), 641-647). Each count has one more: nothing is
    claimed that the contigs could not show.

    `ValueError` if there are too few contigs of every length.
    """
    curves = []
    for length in lengths_nt:
        near = np.abs(np.log(length_nt / length)) < _NEAR
        if min((near & is_virus).sum(), (near & ~is_virus).sum()) >= _FEWEST:
            curves.append((length, *_curve(score[near], is_virus[near], weight[near])))
    if not curves:
        raise ValueError("too few contigs to say what a score is worth")
    known, at, height = zip(*curves, strict=True)
    return ByLength(np.array(known, np.float64), np.stack(at), np.stack(height))


def familiarity(features: Floats, length_nt: Floats, lengths_nt: tuple[int, ...]) -> Familiarity:
    """Along which axes records vary, and how far from their mean those of a length lie."""
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation < _APART] = np.inf
    variance, turn = np.linalg.eigh(np.cov((features - mean) / deviation, rowvar=False))
    kept = variance > _LEAST_VARIANCE
    axes = turn[:, kept] / np.sqrt(variance[kept]) / deviation[:, None]
    distance = (((features - mean) @ axes) ** 2).mean(axis=1)
    share = np.unique([*np.linspace(0, 1, _KNOTS), *_TAIL])
    near = {length: np.abs(np.log(length_nt / length)) < _NEAR for length in lengths_nt}
    known = [length for length in lengths_nt if near[length].sum() >= _FEWEST]
    at = [_ascending(np.quantile(distance[near[length]], share)) for length in known]
    height = np.tile(share, (len(known), 1))
    return Familiarity(mean, axes, ByLength(np.array(known, np.float64), np.stack(at), height))


def _curve(score: Floats, is_virus: Flags, weight: Floats) -> tuple[Floats, Floats]:
    """Scores, ascending, and the log ratio there, never falling; as many for every length."""
    borders = [_quantiles(score[is_virus], weight[is_virus], 1 - _SHARES)]
    borders += [_quantiles(score[~is_virus], weight[~is_virus], _SHARES)]
    # Beyond the highest of the others, and below the lowest virus, there was none.
    ends = [score[~is_virus].max(), score[is_virus].min()]
    place = np.searchsorted(np.unique(np.concatenate([*borders, ends])), score)
    block = np.unique(place, return_inverse=True)[1]
    ratio = _log_share(block, weight * is_virus) - _log_share(block, weight * ~is_virus)
    balanced = weight / np.where(is_virus, weight[is_virus].sum(), weight[~is_virus].sum())
    mass = np.bincount(block, balanced)
    at = _ascending(np.bincount(block, balanced * score) / mass)
    height = IsotonicRegression().fit_transform(np.arange(len(mass)), ratio, sample_weight=mass)
    missing = 2 * len(_SHARES) + 3 - len(at)
    beyond = at[-1] + np.arange(1, missing + 1)
    return np.append(at, beyond), np.append(height, np.full(missing, height[-1]))


def _quantiles(score: Floats, weight: Floats, shares: Floats) -> Floats:
    """Scores below which these shares of the weight lie."""
    order = np.argsort(score)
    upto = np.cumsum(weight[order])
    place = np.searchsorted(upto, shares * upto[-1])
    quantiles: Floats = np.take(score[order], place, mode="clip")
    return quantiles


def _log_share(block: NDArray[np.int64], weight: Floats) -> Floats:
    """Logarithm of each block's share of the weight, a contig more in each."""
    mass = np.bincount(block, weight)
    total = mass.sum()
    # So many equal contigs vary as much as these do (Kish, Survey Sampling, 1965).
    count = total**2 / (weight[weight > 0] ** 2).sum()
    share: Floats = np.log(mass / total * count + _PSEUDO) - np.log(count + _PSEUDO)
    return share


def _ascending(values: Floats) -> Floats:
    """The values, each above the one before by a little at least."""
    step = _APART * max(1.0, float(np.abs(values).max()))
    ascending: Floats = np.maximum.accumulate(values) + step * np.arange(len(values))
    return ascending
