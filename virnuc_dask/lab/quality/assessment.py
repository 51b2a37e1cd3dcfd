"""All figures of a scored run: by level, by length, by group of records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.quality.calibrate import FEWEST_CONTIGS
from virnuc_dask.lab.quality.figures import (
    Flags,
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
from virnuc_dask.lab.quality.scored import Level, ScoredRun

# Classes of contigs, from and below.
CONTIG_LENGTHS_NT = ((0, 500), (500, 1_000), (1_000, 3_000), (3_000, 10_000), (10_000, None))
PREVALENCES = (0.01, 0.1, 0.5)  # of the samples that q-values are tried on
NOMINAL_RATES = (0.05, 0.1)
_NEAREST = 1e-6  # contigs.tsv has six decimals: nothing nearer to 0 and 1 is known
_MISTAKES = 5  # records shown of each kind

Figures = dict[str, Any]


def assess(run: ScoredRun) -> Figures:
    """Figures of one run, ready for JSON; None is a figure that is not defined there."""
    levels = {name: level_quality(level) for name, level in run.levels.items()}
    everything = np.ones(len(run.labelled.is_virus), np.bool_)
    # The levels whose figures have an interval, and are told for pairs of groups.
    of_records = {name: level for name, level in run.levels.items() if name != "frames"}
    for name, level in of_records.items():
        levels[name]["auroc_interval"] = auroc_interval(level, run.labelled.is_virus, everything)
    return {
        "levels": levels,
        "by_length": {"contigs": list(_by_length(run.contigs))}
        | {
            name: list(_by_fullness(level, run.chunk_length))
            for name, level in run.levels.items()
            if name != "contigs"
        },
        "pairs": {name: list(_pairs(run, level)) for name, level in of_records.items()},
        "groups": list(_groups(run)),
        "calibration": calibration(run),
        "mistakes": mistakes(run),
        "curves": {
            name: curves(level.scored.score, level.scored.is_virus)
            for name, level in run.levels.items()
        },
    }


def level_quality(level: Level) -> Figures:
    """Counts and quality over the rows with a score, and how many have none.

    What the run is unsure of is not called virus, nor is a contig that holds a viral region; of
    contigs both are counted, too.
    """
    scored = level.scored
    sides = {"virus": level.is_virus, "others": ~level.is_virus}
    found = {f"n_{name}": int((side & level.is_scored).sum()) for name, side in sides.items()}
    found |= {f"unscored_{n}": int((side & ~level.is_scored).sum()) for n, side in sides.items()}
    for kind, rows in (("unsure", level.unsure), ("region", level.region)):
        if rows is not None:
            found |= {f"{kind}_{name}": int((side & rows).sum()) for name, side in sides.items()}
    return found | quality(scored.score, scored.called, scored.is_virus)


def auroc_interval(level: Level, is_virus: Flags, among: Flags) -> list[float] | None:
    """95 % interval of a level's AUROC over resamples of the records ``among`` all."""
    scored = level.where(among[level.record]).scored
    auroc = ranked(scored.score, scored.is_virus, scored.record)
    drawn = resampled([auroc], is_virus, among)
    return None if drawn is None else interval(drawn[0])


def difference(level: Level, first: Level, is_virus: Flags) -> Figures | None:
    """By how much a level's AUROC is above that of ``first``, with its 95 % interval.

    Both are of runs over the same records; each resample draws the same of them for both.
    """
    aurocs = [ranked(s.score, s.is_virus, s.record) for s in (level.scored, first.scored)]
    ours, theirs = (auroc(np.ones(len(is_virus), np.int64)) for auroc in aurocs)
    if np.isnan(ours - theirs):
        return None
    drawn = resampled(aurocs, is_virus, np.ones(len(is_virus), np.bool_))
    found = None if drawn is None else interval(drawn[0] - drawn[1])
    return {"auroc": rounded(ours - theirs), "interval": found}


def side_by_side(contigs: Sequence[Level]) -> list[Figures]:
    """The figures of each run's contigs over those that all of the runs score.

    Model sets leave different records without a score, and the hard ones most of all: what sets
    say of the same records can be compared. ``difference_to_first`` is that to the first run.
    """
    is_virus = contigs[0].is_virus
    in_all = np.logical_and.reduce([level.is_scored for level in contigs])
    shared = [level.where(in_all) for level in contigs]
    return [
        level_quality(level)
        | {
            "auroc_interval": auroc_interval(level, is_virus, in_all),
            "difference_to_first": difference(level, shared[0], is_virus) if place else None,
        }
        for place, level in enumerate(shared)
    ]


def _by_length(contigs: Level) -> Iterator[Figures]:
    """The figures within classes of length; classes without a row are left out."""
    for start, end in CONTIG_LENGTHS_NT:
        inside = (contigs.length_nt >= start) & (contigs.length_nt < (end or np.inf))
        if inside.any():
            level = contigs.where(inside)
            error = (reliability(level) or {}).get("expected_calibration_error")
            span = {"from_nt": start, "below_nt": end, "expected_calibration_error": error}
            yield span | level_quality(level)


def _by_fullness(level: Level, chunk_length: int) -> Iterator[Figures]:
    full = level.length_nt == chunk_length
    for name, rows in (("full", full), ("shorter", ~full)):
        if rows.any():
            yield {"chunk": name} | level_quality(level.where(rows))


def _pairs(run: ScoredRun, level: Level) -> Iterator[Figures]:
    """The figures of every viral group against every other group."""
    groups, group_of, is_virus = run.labelled.groups, run.labelled.group_of, run.labelled.is_virus
    for v, viral in enumerate(groups):
        for o, others in enumerate(groups):
            if viral.is_virus and not others.is_virus:
                among = np.isin(group_of, (v, o))
                found = level_quality(level.where(among[level.record]))
                found["auroc_interval"] = auroc_interval(level, is_virus, among)
                yield {"virus": viral.name, "others": others.name} | found


def _groups(run: ScoredRun) -> Iterator[Figures]:
    """How much of each group is called virus, at every level."""
    group_of = run.labelled.group_of
    for number, group in enumerate(run.labelled.groups):
        yield {"name": group.name, "class": "virus" if group.is_virus else "others"} | {
            name: _called(level.where(group_of[level.record] == number))
            for name, level in run.levels.items()
        }


def _called(level: Level) -> Figures:
    """Counts, and the share called virus: of all rows, and of those with a score."""
    total, scored, called = len(level.score), int(level.is_scored.sum()), int(level.called.sum())
    return {
        "total": total,
        "scored": scored,
        "called_virus": called,
        **({} if level.unsure is None else {"unsure": int(level.unsure.sum())}),
        **({} if level.region is None else {"region": int(level.region.sum())}),
        "share": rounded(called / total) if total else None,
        "share_of_scored": rounded(called / scored) if scored else None,
    }


def calibration(run: ScoredRun) -> Figures | None:
    """How well probabilities and q-values hold; None for a model set without a calibration."""
    levels = {name: level for name, level in run.levels.items() if level.probability is not None}
    found: Figures = {name: reliability(level) for name, level in levels.items()}
    if "contigs" in found:
        found["false_discovery"] = false_discoveries(run.contigs)
    return found or None


def reliability(level: Level) -> Figures | None:
    """Expected calibration error and the bins that it is the mean of.

    None unless rows of both classes have a probability.
    """
    likely, is_virus = level.with_probability()
    if len(np.unique(is_virus)) < 2:
        return None
    return {
        "expected_calibration_error": rounded(calibration_error(likely, is_virus)),
        "bins": reliability_bins(likely, is_virus),
    }


def false_discoveries(contigs: Level) -> list[Figures] | None:
    """Realised false discovery rates of samples drawn from the contigs, seeded.

    None with fewer than `FEWEST_CONTIGS` of a class: too few to draw samples from.
    """
    likely, is_virus = contigs.with_probability()
    if np.bincount(is_virus, minlength=2).min() < FEWEST_CONTIGS:
        return None
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
    wrong = contigs.is_scored & (contigs.called != contigs.is_virus)
    if contigs.unsure is not None:
        wrong &= ~contigs.unsure
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
