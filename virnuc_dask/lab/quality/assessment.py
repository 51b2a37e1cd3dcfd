"""All figures of a run over labelled files: of all records, by length, by group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.quality.figures import (
    calibration_error,
    curves,
    discoveries,
    interval,
    quality,
    ranked,
    reliability_bins,
    resampled,
    rounded,
)
from virnuc_dask.lab.quality.scored import Scored, ScoredRun

# Classes of records, from and below.
LENGTHS_NT = ((0, 500), (500, 1_000), (1_000, 3_000), (3_000, 10_000), (10_000, None))
PREVALENCES = (0.01, 0.1, 0.5)  # of the samples that q-values are tried on
NOMINAL_RATES = (0.05, 0.1)
_FEWEST_CONTIGS = 20  # of either class, to draw samples from
_NEAREST = 1e-6  # contigs.tsv has six decimals: nothing nearer to 0 and 1 is known
_MISTAKES = 5  # records shown of each kind

Figures = dict[str, Any]


def assess(run: ScoredRun) -> Figures:
    """Figures of one run, ready for JSON; None is a figure that is not defined there."""
    scored = run.contigs.scored
    return {
        "contigs": _with_interval(run.contigs),
        "by_length": list(_by_length(run.contigs)),
        "pairs": list(_pairs(run)),
        "groups": list(_groups(run)),
        "calibration": calibration(run.contigs),
        "mistakes": mistakes(run),
        "curves": curves(scored.score, scored.is_virus),
    }


def counted_quality(rows: Scored) -> Figures:
    """Counts and quality over the rows with a score; how many have none, are unsure, or a region.

    What the run is unsure of is not called virus, nor is a record that holds a viral region.
    """
    scored = rows.scored
    kinds = {"n": rows.is_scored, "unscored": ~rows.is_scored}
    kinds |= {"unsure": rows.unsure, "region": rows.region}
    sides = {"virus": rows.is_virus, "others": ~rows.is_virus}
    counts = {
        f"{kind}_{side}": int((is_kind & is_side).sum())
        for kind, is_kind in kinds.items()
        for side, is_side in sides.items()
    }
    return counts | quality(scored.score, scored.called, scored.is_virus)


def _with_interval(rows: Scored) -> Figures:
    return counted_quality(rows) | {"auroc_interval": _interval([rows.scored])}


def _interval(of: Sequence[Scored]) -> list[float] | None:
    """95 % interval over resampled records of the AUROC, or of the first's less the second's."""
    aurocs = [ranked(rows.score, rows.is_virus) for rows in of]
    drawn = resampled(aurocs, of[0].is_virus)
    return None if drawn is None else interval(drawn[:, 0] - drawn[:, 1:].sum(axis=1))


def side_by_side(contigs: Sequence[Scored]) -> list[Figures]:
    """The figures of each run's records over those that all of the runs score.

    Model sets leave different records without a score, and the hard ones most of all: what sets
    say of the same records can be compared. ``difference_to_first`` is that to the first run; its
    resamples draw the same records for both.
    """
    in_all = np.logical_and.reduce([rows.is_scored for rows in contigs])
    shared = [rows.where(in_all) for rows in contigs]
    measured = [_with_interval(rows) for rows in shared]
    for rows, found in zip(shared, measured, strict=True):
        ours, theirs = found["auroc"], measured[0]["auroc"]
        found["difference_to_first"] = None
        if rows is not shared[0] and ours is not None:
            bounds = _interval([rows, shared[0]])
            found["difference_to_first"] = {"auroc": rounded(ours - theirs), "interval": bounds}
    return measured


def _by_length(contigs: Scored) -> Iterator[Figures]:
    """The figures within classes of length; classes without a record are left out."""
    for start, end in LENGTHS_NT:
        inside = (contigs.length_nt >= start) & (contigs.length_nt < (end or np.inf))
        if inside.any():
            rows = contigs.where(inside)
            error = (_reliability(rows) or {}).get("expected_calibration_error")
            span = {"from_nt": start, "below_nt": end, "expected_calibration_error": error}
            yield span | counted_quality(rows)


def _pairs(run: ScoredRun) -> Iterator[Figures]:
    """The figures of every viral group against every other group."""
    for v, viral in enumerate(run.labelled.groups):
        for o, others in enumerate(run.labelled.groups):
            if viral.is_virus and not others.is_virus:
                rows = run.contigs.where(np.isin(run.labelled.group_of, (v, o)))
                yield {"virus": viral.name, "others": others.name} | _with_interval(rows)


def _groups(run: ScoredRun) -> Iterator[Figures]:
    """Of each group, counts and the share called virus: of all records, and of those scored."""
    for number, group in enumerate(run.labelled.groups):
        rows = run.contigs.where(run.labelled.group_of == number)
        total, scored, called = len(rows.score), int(rows.is_scored.sum()), int(rows.called.sum())
        yield {
            "name": group.name,
            "class": "virus" if group.is_virus else "others",
            "total": total,
            "scored": scored,
            "unsure": int(rows.unsure.sum()),
            "region": int(rows.region.sum()),
            "called_virus": called,
            "share": rounded(called / total),
            "share_of_scored": rounded(called / scored) if scored else None,
        }


def calibration(contigs: Scored) -> Figures | None:
    """How well probabilities and q-values hold; None for a model set without a calibration."""
    if contigs.probability is None:
        return None
    return {**(_reliability(contigs) or {}), "false_discovery": _false_discoveries(contigs)}


def _reliability(contigs: Scored) -> Figures | None:
    """Expected calibration error and the bins that it is the mean of.

    None unless records of both classes have a probability.
    """
    likely, is_virus = contigs.with_probability()
    if len(np.unique(is_virus)) < 2:
        return None
    return {
        "expected_calibration_error": rounded(calibration_error(likely, is_virus)),
        "bins": reliability_bins(likely, is_virus),
    }


def _false_discoveries(contigs: Scored) -> list[Figures]:
    """Realised false discovery rates of samples drawn from the records, seeded; none of few."""
    likely, is_virus = contigs.with_probability()
    if np.bincount(is_virus, minlength=2).min() < _FEWEST_CONTIGS:
        return []
    likely = np.clip(likely, _NEAREST, 1 - _NEAREST)
    evidence = np.log(likely) - np.log1p(-likely)
    return [
        {"prevalence": share, "q_value": rate} | discoveries(evidence, is_virus, share, rate)
        for share in PREVALENCES
        for rate in NOMINAL_RATES
    ]


def mistakes(run: ScoredRun) -> dict[str, list[Figures]]:
    """The records called wrongly with the most extreme scores, the worst first."""
    contigs = run.contigs
    wrong = contigs.is_scored & (contigs.called != contigs.is_virus) & ~contigs.unsure
    worst = np.argsort(contigs.score, kind="stable")
    missed, false = (worst[(wrong & side)[worst]] for side in (~contigs.called, contigs.called))
    return {"called_virus": _shown(run, false[::-1]), "missed": _shown(run, missed)}


def _shown(run: ScoredRun, records: NDArray[np.int64]) -> list[Figures]:
    groups, group_of = run.labelled.groups, run.labelled.group_of
    return [
        {
            "record_id": run.record_ids[record].as_py(),
            "group": groups[group_of[record]].name,
            "length_nt": int(run.contigs.length_nt[record]),
            "score": rounded(run.contigs.score[record]),
        }
        for record in records[:_MISTAKES].tolist()
    ]
