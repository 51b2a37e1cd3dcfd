"""All figures of a scored run: by level, by length, by group of records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.lab.labelled.files import LabelledFiles
from virnuc_dask.lab.quality.calibrate import (
    FEWEST_CONTIGS,
    expected_calibration_error,
    simulate,
)
from virnuc_dask.lab.quality.figures import (
    SEED,
    Flags,
    RankedScores,
    calls_quality,
    interval,
    precision_recall_points,
    ranking,
    reliability_bins,
    resampled_aurocs,
    roc_points,
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
    for name, level in _of_records(run).items():
        levels[name]["auroc_interval"] = auroc_interval(level, run.labelled.is_virus)
    return {
        "levels": levels,
        "by_length": by_length(run),
        "pairs": pairs(run),
        "groups": groups(run),
        "calibration": calibration(run),
        "mistakes": mistakes(run),
        "curves": {name: curves(level) for name, level in run.levels.items()},
    }


def level_quality(level: Level) -> Figures:
    """Counts, ranking and calls over the rows with a score, and how many have none.

    What the run is unsure of is not called virus; of contigs it is counted, too.
    """
    scored = level.scored
    return {
        "n_virus": int(scored.is_virus.sum()),
        "n_others": int((~scored.is_virus).sum()),
        "unscored_virus": int((level.is_virus & ~level.is_scored).sum()),
        "unscored_others": int((~level.is_virus & ~level.is_scored).sum()),
        **_unsure(level),
        **ranking(scored.score, scored.is_virus),
        **calls_quality(scored.called, scored.is_virus),
    }


def _unsure(level: Level) -> Figures:
    """How many of each class the run is unsure of; nothing of levels that know no such call."""
    if level.unsure is None:
        return {}
    return {
        "unsure_virus": int((level.unsure & level.is_virus).sum()),
        "unsure_others": int((level.unsure & ~level.is_virus).sum()),
    }


def curves(level: Level) -> Figures:
    """Points of the ROC curve and of the precision-recall curve."""
    scored = level.scored
    return {
        "roc": roc_points(scored.score, scored.is_virus),
        "precision_recall": precision_recall_points(scored.score, scored.is_virus),
    }


def auroc_interval(level: Level, is_virus: Flags, among: Flags | None = None) -> list[float] | None:
    """95 % interval of a level's AUROC over resamples of the records, all or those ``among``.

    ``is_virus`` is the label of every record.
    """
    among = np.ones(len(is_virus), np.bool_) if among is None else among
    drawn = resampled_aurocs([_ranked(level, among)], is_virus, among)
    return None if drawn is None else interval(drawn[0])


def difference(level: Level, first: Level, is_virus: Flags) -> Figures | None:
    """By how much a level's AUROC is above that of ``first``, with its 95 % interval.

    Both are of runs over the same records, whose labels ``is_virus`` has, and each resample draws
    the same of them for both.
    """
    everything = np.ones(len(is_virus), np.bool_)
    ranked = [_ranked(level, everything), _ranked(first, everything)]
    drawn = resampled_aurocs(ranked, is_virus, everything)
    once = np.ones(len(is_virus), np.int64)
    above = ranked[0].auroc(once) - ranked[1].auroc(once)
    if np.isnan(above):
        return None
    return {
        "auroc": round(above, 6),
        "interval": None if drawn is None else interval(drawn[0] - drawn[1]),
    }


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


def by_length(run: ScoredRun) -> Figures:
    """The figures within classes of length; classes without a row are left out."""
    contigs = []
    for start, end in CONTIG_LENGTHS_NT:
        length = run.contigs.length_nt
        inside = (length >= start) & (length < (np.inf if end is None else end))
        if inside.any():
            span: Figures = {"from_nt": start, "below_nt": end}
            level = run.contigs.where(inside)
            error = {"expected_calibration_error": calibration_error(level)}
            contigs.append(span | level_quality(level) | error)
    pieces = {
        name: _by_fullness(level, run.chunk_length)
        for name, level in run.levels.items()
        if name != "contigs"
    }
    return {"contigs": contigs} | pieces


def _by_fullness(level: Level, chunk_length: int) -> list[Figures]:
    full = level.length_nt == chunk_length
    classes = {"full": full, "shorter": ~full}
    return [
        {"chunk": name} | level_quality(level.where(rows))
        for name, rows in classes.items()
        if rows.any()
    ]


def pairs(run: ScoredRun) -> dict[str, list[Figures]]:
    """The figures of chunks and of contigs, of every viral group against every other group."""
    return {name: _pairs(level, run.labelled) for name, level in _of_records(run).items()}


def _of_records(run: ScoredRun) -> dict[str, Level]:
    """The levels whose figures have an interval, and are told for pairs of groups."""
    return {name: level for name, level in run.levels.items() if name != "frames"}


def _pairs(level: Level, labelled: LabelledFiles) -> list[Figures]:
    group_of = labelled.group_of
    found = []
    for v, viral in enumerate(labelled.groups):
        for o, others in enumerate(labelled.groups):
            if viral.is_virus and not others.is_virus:
                among = (group_of == v) | (group_of == o)
                figures = level_quality(level.where(among[level.record]))
                figures["auroc_interval"] = auroc_interval(level, labelled.is_virus, among)
                found.append({"virus": viral.name, "others": others.name} | figures)
    return found


def groups(run: ScoredRun) -> list[Figures]:
    """How much of each group is called virus, at every level."""
    group_of = run.labelled.group_of
    return [
        {
            "name": group.name,
            "class": "virus" if group.is_virus else "others",
            **{name: _called(level.where(group_of[level.record] == number))
               for name, level in run.levels.items()},
        }
        for number, group in enumerate(run.labelled.groups)
    ]  # fmt: skip


def _called(level: Level) -> Figures:
    """Counts, and the share called virus: of all rows, and of those with a score.

    Of contigs also how many the run is unsure of.
    """
    total, scored = len(level.score), int(level.is_scored.sum())
    called = int(level.called.sum())
    return {
        "total": total,
        "scored": scored,
        "called_virus": called,
        **({} if level.unsure is None else {"unsure": int(level.unsure.sum())}),
        "share": round(called / total, 6) if total else None,
        "share_of_scored": round(called / scored, 6) if scored else None,
    }


def calibration(run: ScoredRun) -> Figures | None:
    """How well probabilities and q-values hold; None for a model set without a calibration."""
    found: Figures = {
        name: reliability(level)
        for name, level in run.levels.items()
        if level.probability is not None
    }
    if "contigs" in found:
        found["false_discovery"] = false_discoveries(run.contigs)
    return found or None


def reliability(level: Level) -> Figures | None:
    """Expected calibration error and the bins that it is the mean of; None with one class only."""
    error = calibration_error(level)
    if error is None:
        return None
    bins = reliability_bins(*level.with_probability())
    return {"expected_calibration_error": error, "bins": bins}


def calibration_error(level: Level) -> float | None:
    """Expected calibration error; None unless rows of both classes have a probability."""
    likely, is_virus = level.with_probability()
    if len(np.unique(is_virus)) < 2:
        return None
    return round(expected_calibration_error(likely, is_virus), 6)


def false_discoveries(contigs: Level) -> list[Figures] | None:
    """Realised false discovery rates of samples drawn from the contigs, seeded.

    None with fewer than `FEWEST_CONTIGS` of a class: too few to draw samples from.
    """
    likely, is_virus = contigs.with_probability()
    if np.bincount(is_virus, minlength=2).min() < FEWEST_CONTIGS:
        return None
    likely = np.clip(likely, _NEAREST, 1 - _NEAREST)
    evidence = np.log(likely) - np.log1p(-likely)
    found = []
    for prevalence in PREVALENCES:
        for nominal in NOMINAL_RATES:
            drawn = simulate(evidence, is_virus, prevalence, nominal, np.random.default_rng(SEED))
            found.append(
                {
                    "prevalence": prevalence,
                    "q_value": nominal,
                    "false_discovery_rate": round(drawn.fdr, 6),
                    "recall": round(drawn.recall, 6),
                    "estimated_prevalence": round(drawn.prevalence, 6),
                }
            )
    return found


def mistakes(run: ScoredRun) -> dict[str, list[Figures]]:
    """The records called wrongly with the most extreme scores, the worst first."""
    contigs = run.contigs
    wrong = contigs.is_scored & (contigs.called != contigs.is_virus)
    if contigs.unsure is not None:
        wrong &= ~contigs.unsure
    false, missed = np.flatnonzero(wrong & contigs.called), np.flatnonzero(wrong & ~contigs.called)
    return {
        "called_virus": _shown(run, false[np.argsort(-contigs.score[false], kind="stable")]),
        "missed": _shown(run, missed[np.argsort(contigs.score[missed], kind="stable")]),
    }


def _shown(run: ScoredRun, records: NDArray[np.int64]) -> list[Figures]:
    names = [group.name for group in run.labelled.groups]
    group_of = run.labelled.group_of
    return [
        {
            "record_id": run.record_ids[record].as_py(),
            "group": names[group_of[record]],
            "length_nt": int(run.contigs.length_nt[record]),
            "score": round(float(run.contigs.score[record]), 6),
        }
        for record in records[:_MISTAKES].tolist()
    ]


def _ranked(level: Level, among: Flags) -> RankedScores:
    scored = level.where(among[level.record]).scored
    return RankedScores(scored.score, scored.is_virus, scored.record)
