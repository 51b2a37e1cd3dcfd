"""An evaluation as one self-contained HTML page: tables, then plots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from virnuc_dask.lab.quality.markup import (
    NONE,
    Row,
    inline_svg,
    interval,
    number,
    percent,
    section,
    stylesheet,
    table,
    text,
)
from virnuc_dask.lab.quality.plots import Plot

Content = Mapping[str, Any]

_LEVELS = ("chunks", "contigs", "frames")
_SHARED = "contigs that all sets score"
_QUALITY = (
    ("AUROC", "auroc"),
    ("average precision", "average_precision"),
    ("F1", "f1"),
    ("MCC", "mcc"),
    ("recall at 1\xa0%\xa0FP", "recall_at_fpr_0.01"),
    ("recall at 5\xa0%\xa0FP", "recall_at_fpr_0.05"),
    ("recall", "recall"),
    ("precision", "precision"),
    ("false positives", "false_positive_rate"),
)
_SHARES = {"recall", "precision", "false_positive_rate", "recall_at_fpr_0.01", "recall_at_fpr_0.05"}
_QUALITY_HEAD = ("virus", "others", *(name for name, _ in _QUALITY))


def page(content: Content, plots: Sequence[Plot]) -> str:
    """The page. Nothing in it is fetched from elsewhere, and what files hold is escaped."""
    labels = ", ".join(e["label"] for e in content["evaluations"])
    sections = [*_tables(content), _plots(plots), _provenance(content)]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>Evaluation: {text(labels)}</title>",
            f"<style>{stylesheet()}</style></head><body><main>",
            f"<header><h1>Evaluation</h1><p>{text(labels)}</p>{_lead(content)}</header>",
            *sections,
            "</main></body></html>\n",
        ]
    )


def _lead(content: Content) -> str:
    counts = [
        f"{sum(g['records'] for g in content['groups'] if g['is_virus'] == is_virus):,} {name}"
        for is_virus, name in ((True, "viral records"), (False, "other records"))
    ]
    warnings = "".join(f'<p class="warning">{text(warning)}</p>' for warning in content["warnings"])
    return f"<p>{' and '.join(counts)} in {len(content['groups'])} files.</p>{warnings}"


def _tables(content: Content) -> Iterator[str]:
    evaluations = content["evaluations"]
    yield _overall(evaluations)
    for level in _levels(evaluations):
        if level != "frames":
            yield _pairs(evaluations, level)
    yield _groups(evaluations)
    yield _by_length(evaluations)
    yield _calibration(evaluations)
    yield _mistakes(evaluations)


def _overall(evaluations: Sequence[Content]) -> str:
    rows = [
        (level, text(e["label"]), *_quality(e["levels"][level]), _compared(e, level))
        for level in _levels(evaluations)
        for e in evaluations
        if level in e["levels"]
    ]
    shared = [
        (_SHARED, text(e["label"]), *_quality(found), _change(found["difference_to_first"]))
        for e in evaluations
        if (found := e["shared_contigs"])
    ]
    compared = ("Δ AUROC to the first",) if len(evaluations) > 1 else ()
    head = ("level", "model set", *_QUALITY_HEAD, *compared)
    return section(
        "All records",
        "AUROC: chance that a virus scores above another sequence, 0.5 for a guess. Average "
        "precision depends on the share of viruses in these files. Recall at 1 % FP: viruses found "
        "by a threshold that calls 1 % of the others. F1, MCC (1 perfect, 0 a guess), recall, "
        "precision and false positives: of the run's own calls. Brackets hold 95 % intervals over "
        "resampled records: smaller differences mean nothing. Rows without a score are left out, "
        "their number stands behind the plus; contigs that a set is unsure of count as not called.",
        table(head, (row[: len(head)] for row in (*rows, *shared)), 2),
        *_why_contigs_alone(evaluations),
    )


def _levels(evaluations: Sequence[Content]) -> list[str]:
    """The levels that any of the sets has."""
    return [level for level in _LEVELS if any(level in e["levels"] for e in evaluations)]


def _why_contigs_alone(evaluations: Sequence[Content]) -> Iterator[str]:
    if alone := [text(e["label"]) for e in evaluations if "chunks" not in e["levels"]]:
        yield (
            f"<p>Contigs alone: {', '.join(alone)}. A set that reads genes has neither frames nor "
            "chunks of one length; contigs are what all sets have.</p>"
        )


def _compared(evaluation: Content, level: str) -> str:
    return _change(evaluation["difference_to_first"] if level == "chunks" else None)


def _change(found: Content | None) -> str:
    if found is None:
        return NONE
    return f"{found['auroc']:+.4f}{interval(found['interval'], '+.4f')}"


def _quality(figures: Content) -> Row:
    counts = [
        f"{figures[f'n_{side}']:,}"
        + (f"<small> ({unsure:,} unsure)</small>" if (unsure := _unsure(figures, side)) else "")
        + (f"<small> + {missing:,}</small>" if (missing := figures[f"unscored_{side}"]) else "")
        for side in ("virus", "others")
    ]
    auroc = number(figures["auroc"]) + interval(figures.get("auroc_interval"), ".3f")
    rest = [(percent if key in _SHARES else number)(figures[key]) for _, key in _QUALITY[1:]]
    return (*counts, auroc, *rest)


def _unsure(figures: Content, side: str) -> int:
    unsure: int = figures.get(f"unsure_{side}", 0)
    return unsure


def _pairs(evaluations: Sequence[Content], level: str) -> str:
    pairs = [(text(e["label"]), e["pairs"][level]) for e in evaluations if level in e["pairs"]]
    rows = [
        (text(pair["virus"]), text(pair["others"]), label, *_quality(pair))
        for place in range(len(pairs[0][1]))
        for label, found in pairs
        for pair in [found[place]]
    ]
    return section(
        f"{level.capitalize()}, by pair of groups",
        "Each viral file against each other file: what is hard shows here.",
        table(("virus group", "other group", "model set", *_QUALITY_HEAD), rows, 3),
    )


def _groups(evaluations: Sequence[Content]) -> str:
    levels = _levels(evaluations)
    rows = [
        (
            text(group["name"]),
            group["class"],
            text(e["label"]),
            *(cell for level in levels for cell in _called(group.get(level))),
        )
        for place in range(len(evaluations[0]["groups"]))
        for e in evaluations
        for group in [e["groups"][place]]
    ]
    heads = (f"{level}{rest}" for level in levels for rest in ("", ", virus", ", of scored"))
    return section(
        "Called virus, by group",
        "How many there are, the share of all that is called virus, and the share of those with a "
        "score: of viruses as many as possible, of all else as few. Contigs that a set is unsure "
        "of are not called virus.",
        table(("group", "class", "model set", *heads), rows, 3),
    )


def _called(figures: Content | None) -> Row:
    if figures is None:
        return NONE, NONE, NONE
    unsure = figures.get("unsure", 0)
    total = f"{figures['total']:,}" + (f"<small> ({unsure:,} unsure)</small>" if unsure else "")
    return total, *map(percent, (figures["share"], figures["share_of_scored"]))


def _by_length(evaluations: Sequence[Content]) -> str:
    rows = [
        (level, name(figures), text(e["label"]), *_quality(figures))
        for level, name in (("contigs", _span), ("chunks", _chunk), ("frames", _chunk))
        for length in _lengths(evaluations, level, name)
        for e in evaluations
        for figures in e["by_length"].get(level, ())
        if name(figures) == length
    ]
    return section(
        "By length",
        "Short sequences say less: contigs by their length, chunks and their frames by whether the "
        "chunk has the full length.",
        table(("level", "length", "model set", *_QUALITY_HEAD), rows, 3),
    )


def _lengths(
    evaluations: Sequence[Content], level: str, name: Callable[[Content], str]
) -> list[str]:
    """The classes of length that any of the sets has, each once."""
    return list(dict.fromkeys(name(f) for e in evaluations for f in e["by_length"].get(level, ())))


def _span(figures: Content) -> str:
    start, end = figures["from_nt"], figures["below_nt"]
    return f"{start:,} nt and more" if end is None else f"{start:,} to {end - 1:,} nt"


def _chunk(figures: Content) -> str:
    return "full chunks" if figures["chunk"] == "full" else "shorter chunks"


def _calibration(evaluations: Sequence[Content]) -> str:
    calibrated = [e for e in evaluations if e["calibration"]]
    missing = [text(e["label"]) for e in evaluations if not e["calibration"]]
    errors = [
        (text(e["label"]), level, number(error)) for e in calibrated for level, error in _errors(e)
    ]
    rates = [
        (
            text(e["label"]),
            *map(percent, (r["prevalence"], r["q_value"], r["false_discovery_rate"], r["recall"])),
        )
        for e in calibrated
        for r in e["calibration"].get("false_discovery") or ()
    ]
    parts = []
    if errors:
        parts.append(table(("model set", "level", "calibration error"), errors, 2))
    if rates:
        head = ("model set", "viruses in the sample", "q-value up to", "realised", "recall")
        parts.append(table(head, rates, 1))
    if missing:
        parts.append(f"<p>No calibration: {', '.join(missing)}.</p>")
    return section(
        "Calibration",
        "Calibration error: mean distance between a probability and the share of viruses among "
        "those of that probability, were both classes equally frequent (15 bins). Realised: the "
        "share of false ones among the contigs called at that q-value, in samples drawn from these "
        "contigs; it should not exceed the q-value.",
        *parts,
    )


def _errors(evaluation: Content) -> Iterator[tuple[str, float]]:
    """Levels and classes of length that have a calibration error, with it."""
    for level in _LEVELS:
        if found := evaluation["calibration"].get(level):
            yield level, found["expected_calibration_error"]
    for figures in evaluation["by_length"]["contigs"]:
        if (error := figures["expected_calibration_error"]) is not None:
            yield f"contigs, {_span(figures)}", error


def _mistakes(evaluations: Sequence[Content]) -> str:
    kinds = (("called_virus", "called virus"), ("missed", "missed"))
    rows = [
        (
            text(e["label"]),
            kind,
            text(record["record_id"]),
            text(record["group"]),
            f"{record['length_nt']:,}",
            number(record["score"]),
        )
        for e in evaluations
        for key, kind in kinds
        for record in e["mistakes"][key]
    ]
    head = ("model set", "mistake", "record", "group", "length, nt", "score")
    return section(
        "Worst mistakes",
        "Records called wrongly with the most extreme scores; look whether their labels are right. "
        "The score is the probability where there is one.",
        table(head, rows, 4) if rows else "<p>None.</p>",
    )


def _plots(plots: Sequence[Plot]) -> str:
    figures = "".join(
        f"<figure>{inline_svg(plot)}<figcaption>{text(plot.caption)}</figcaption></figure>"
        for plot in plots
    )
    return f'<section><h2>Plots</h2><div class="plots">{figures}</div></section>'


def _provenance(content: Content) -> str:
    inputs = [
        (
            text(g["name"]),
            "virus" if g["is_virus"] else "others",
            f"{g['records']:,}",
            f"{g['length_nt']:,}",
            text(g["file"]),
            f"<code>{text(g['sha256'])}</code>",
        )
        for g in content["groups"]
    ]
    sets = [
        (
            text(e["label"]),
            text(e["modelset"]["version"]),
            text(e["precision"]),
            text(e["called_by"]),
            f"<code>{text(e['modelset']['checksum'])}</code>",
        )
        for e in content["evaluations"]
    ]
    versions = {"virnuc_dask": content["virnuc_dask"], **content["versions"]}
    shown = ", ".join(f"{text(name)} {text(release)}" for name, release in versions.items())
    return section(
        "Made from",
        f"{shown}; {content['resamples']} resamples, seed {content['seed']}.",
        table(("group", "class", "records", "nt", "file", "SHA-256"), inputs, 2),
        table(("model set", "version", "precision", "called virus by", "checksum"), sets, 4),
    )
