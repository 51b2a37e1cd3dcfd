"""What a pretraining tells of its model set: the card, the report, the figures kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from virnuc_dask.pretraining.genes import PARTS
from virnuc_dask.pretraining.recipe import PretrainSettings
from virnuc_dask.training.markdown import number, percent, table

_SURE = "sure_"  # evaluations without others like a viral gene
_KEPT = ("auroc", "average_precision", "n_virus", "n_others")
_COLUMNS = {
    "AUROC": "auroc",
    "average precision": "average_precision",
    "F1": "f1",
    "MCC": "mcc",
    "recall at 1 % false": "recall_at_fpr_0.01",
    "at 5 %": "recall_at_fpr_0.05",
}
_WHAT = {
    "ngrams": (
        "A frame's DNA is embedded as the means of its codons, its codon pairs and its 6-mers, "
        "its peptide as the mean of its residue triples: learnt tables, {width} values a table. "
        "The published classifier's architecture (one hidden layer, here of {hidden}) follows."
    ),
    "transformers": (
        "Small encoders of the published architectures: DNABERT-S for a frame's DNA, ESM-2 for its "
        "peptide, trained by masked modelling; the published classifier's architecture follows."
    ),
}


@dataclass(frozen=True, slots=True)
class PretrainingReport:
    """All that was measured; ``evaluations`` are those of `virnuc_dask.evaluate`, by name."""

    settings: PretrainSettings
    counts: Mapping[str, Mapping[str, int]]  # genes, by side of the split and kind
    left_out: Mapping[str, int]
    sha256: Mapping[str, str]
    histories: Sequence[Sequence[Mapping[str, float]]]
    calibrations: Mapping[int, str]
    evaluations: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For ``report.json``."""
        return asdict(self)

    @property
    def quality(self) -> dict[str, Any]:
        """What ``modelset.json`` keeps: figures on the chunks of held-out genes."""
        return {
            str(e["chunk_length"]): {name: e["levels"]["chunks"][name] for name in _KEPT}
            for e in self.evaluations["genes"]["evaluations"]
        }

    def summary(self) -> str:
        """The most wanted figures, for a terminal."""
        return "\n".join(
            f"{e['chunk_length']} nt: AUROC of chunks {number(e['levels']['chunks']['auroc'])}, "
            f"of contigs {number(c['levels']['contigs']['auroc'])}"
            for e, c in zip(self._of("genes"), self._of("contigs"), strict=True)
        )

    def card(self) -> str:
        """The model card, Markdown."""
        settings = self.settings
        sizes = {
            "width": settings.ngrams.width * settings.ngrams.members,
            "hidden": settings.ngrams.hidden * settings.ngrams.members,
        }
        lines = [
            f"# {settings.name} {settings.version}",
            "",
            _WHAT[settings.encoders].format(**sizes),
            *(["", settings.notes.strip()] if settings.notes else []),
            *self._data(),
            *self._quality(),
            *self._calibration(),
            *self._noise(),
            "",
            "## Licence",
            "",
            settings.licence,
        ]
        return "\n".join(lines) + "\n"

    def _of(self, name: str) -> list[dict[str, Any]]:
        evaluations: list[dict[str, Any]] = self.evaluations[name]["evaluations"]
        return evaluations

    def _data(self) -> Iterator[str]:
        yield from ("", "## Data and split", "")
        for name, digest in self.sha256.items():
            yield f"- `{name}`, SHA-256 `{digest}`"
        split = self.settings.split
        yield ""
        yield (
            f"Whole genomes were drawn, {split.test:.0%} for the test and {split.validation:.0%} "
            "for validation; then every gene was left out whose protein resembles one of a side "
            f"more held out ({split.identity:.0%} identity over {split.coverage:.0%} of the "
            f"shorter protein, MMseqs2 at sensitivity {split.sensitivity:g}). Validation chose the "
            "steps that are kept and the calibration; the test was evaluated when all was done."
        )
        kinds = list(next(iter(self.counts.values())))
        yield ""
        yield from table(
            ["genes", *kinds],
            [[part, *(number(self.counts[part][k]) for k in kinds)] for part in PARTS],
        )
        told = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        yield from ("", f"Left out: {told}.")

    def _variants(self) -> list[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]:
        """What a row's name ends in, evaluations genes, contigs: all of the test, the sure."""
        prefixes = {"": "", ", sure": _SURE}
        return [
            (ending, self._of(f"{prefix}genes"), self._of(f"{prefix}contigs"))
            for ending, prefix in prefixes.items()
            if f"{prefix}genes" in self.evaluations
        ]

    def _quality(self) -> Iterator[str]:
        yield from ("", "## How good it is", "")
        yield "On genomes whose proteins resemble none of training; 95 % intervals in brackets."
        variants = self._variants()
        if len(variants) > 1:
            yield (
                "Rows that say *sure* leave others out whose protein resembles a viral gene's: "
                "they may be a prophage's. All other rows count them as others."
            )
        for place, first in enumerate(self._of("genes")):
            yield from ("", f"### Chunks of {first['chunk_length']} nt", "")
            levels, pairs = [], []
            for ending, genes, contigs in variants:
                levels += _levels(genes[place], contigs[place], ending)
                pairs += [_pair(pair, ending) for pair in genes[place]["pairs"]]
            rows = [
                [name, *(number(level[key]) for key in _COLUMNS.values())] for name, level in levels
            ]
            yield from table(["", *_COLUMNS], rows)
            yield ""
            yield from table(["AUROC of chunks", "", "viruses", "others"], pairs)

    def _calibration(self) -> Iterator[str]:
        yield from ("", "## Calibration and false discoveries", "")
        rows, realised = [], []
        for ending, c in ((ending, c) for ending, _, contigs in self._variants() for c in contigs):
            found, length = c["calibration"], f"{c['chunk_length']} nt{ending}"
            rows.append([length, _ece(found["chunks"]), _ece(found["contigs"])])
            realised += [
                [
                    length,
                    f"{row['prevalence']:.0%}",
                    f"{row['q_value']:.2f}",
                    number(row["false_discovery_rate"]),
                    number(row["recall"]),
                ]
                for row in found["false_discovery"] or ()
            ]
        yield from table(["calibration error (15 bins)", "chunks", "contigs"], rows)
        yield ""
        yield from table(
            [
                "chunks of",
                "viruses in the sample",
                "called to a q-value of",
                "false discoveries",
                "recall",
            ],
            realised,
        )
        yield ""
        made = "; ".join(f"{length} nt: {method}" for length, method in self.calibrations.items())
        yield f"Calibrated on {made}."

    def _noise(self) -> Iterator[str]:
        yield from ("", "## DNA that is nobody's", "")
        rows = []
        for e in self._of("noise"):
            for group in e["groups"]:
                if group["class"] != "virus":
                    chunks = group["chunks"]
                    rows.append(
                        [
                            f"{group['name']}, {e['chunk_length']} nt",
                            percent(chunks["share_of_scored"]),
                            number(chunks["scored"]),
                        ]
                    )
        yield from table(["", "chunks called virus", "of chunks with an open frame"], rows)


def _levels(
    genes: Mapping[str, Any], contigs: Mapping[str, Any], ending: str
) -> list[tuple[str, Mapping[str, Any]]]:
    """Names of rows and their figures."""
    return [
        (f"chunks of genes{ending}", genes["levels"]["chunks"]),
        *((f"the {x['chunk']} ones{ending}", x) for x in genes["by_length"]["chunks"]),
        (f"contigs{ending}", contigs["levels"]["contigs"]),
    ]


def _pair(pair: Mapping[str, Any], ending: str) -> list[str]:
    name = f"{pair['virus']} against {pair['others']}{ending}"
    return [name, _with_interval(pair), number(pair["n_virus"]), number(pair["n_others"])]


def _ece(found: Mapping[str, Any] | None) -> str:
    return number(None if found is None else found["expected_calibration_error"])


def _with_interval(pair: Mapping[str, Any]) -> str:
    interval = pair.get("auroc_interval")
    text = number(pair["auroc"])
    return text if interval is None else f"{text} ({interval[0]:.3f} to {interval[1]:.3f})"
