"""What MultiQC shows of a run, and ``versions.yml``: written for pipelines."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from virnuc_dask.modelsets.manifest import ModelSetInfo
from virnuc_dask.outputs.contig_table import read_contig_table
from virnuc_dask.stages.calls import OTHERS, UNSCORED, UNSURE, VIRUS
from virnuc_dask.tables.folder import FOR_MULTIQC, MULTIQC, VERSIONS, RunFolder
from virnuc_dask.tables.parquet import write_text
from virnuc_dask.tables.paths import writing

_BINS = 20  # of the histogram
_NAME = "virnuc_dask"
_WHOLE = "{:,.0f}"
_COLUMNS: Mapping[str, dict[str, object]] = {  # of MultiQC's general statistics
    "records": {"title": "Records", "format": _WHOLE, "hidden": True},
    "virus": {"title": "Virus", "description": "Records called virus", "format": _WHOLE},
    "virus_percent": {"title": "% virus", "description": "Of the records", "suffix": "%"},
    "virus_nt": {"title": "Virus nt", "description": "Of the records called virus"},
}
# Of Okabe and Ito's palette, which people with colour blindness tell apart.
_COLOURS = {  # of calls
    VIRUS: "#d55e00",
    "virus_region": "#e69f00",
    OTHERS: "#0072b2",
    UNSURE: "#8a8f98",
    UNSCORED: "#d0d4da",
}


@dataclass
class _Sample:
    """What MultiQC is told of a sample."""

    calls: Counter[str] = field(default_factory=Counter)  # records
    values: Counter[int] = field(default_factory=Counter)  # records in each bin of the histogram
    virus_nt: int = 0

    @property
    def statistics(self) -> dict[str, float]:
        records, virus = self.calls.total(), self.calls[VIRUS]
        percent = 100 * virus / max(1, records)
        return dict(zip(_COLUMNS, (records, virus, percent, self.virus_nt), strict=True))


def write_for_pipelines(folder: RunFolder, info: ModelSetInfo) -> None:
    """Write what MultiQC reads and ``versions.yml``, from the run's ``contigs.tsv``.

    A row is a sample, where ``contigs.tsv`` names them, else the run: by its prefix, or its folder.
    """
    samples = _samples(folder, folder.prefix or folder.path.absolute().name)
    parts = (_general(samples), _calls(samples), _values(samples))
    versions = {_NAME: {_NAME: version("virnuc-dask"), f"modelset_{info.name}": info.version}}
    listed = yaml.safe_dump(versions, indent=4, sort_keys=False)
    with writing(folder.path / MULTIQC):
        (folder.path / MULTIQC).mkdir(exist_ok=True)
    for file, text in zip(FOR_MULTIQC, (*map(json.dumps, parts), listed), strict=True):
        write_text(folder.output(f"{MULTIQC}/{file}"), text)
    write_text(folder.output(VERSIONS), listed)


def _samples(folder: RunFolder, name: str) -> Mapping[str, _Sample]:
    """By name; ``name`` is that of records without a sample."""
    samples: dict[str, _Sample] = defaultdict(_Sample)
    for batch in read_contig_table(folder.output("contigs.tsv")):
        sums = _sums(batch, name).to_pylist()
        for row in sums:
            sample, records = samples[row["sample"]], row["length_nt_count"]
            sample.calls[row["call"]] += records
            if row["bin"] is not None:
                sample.values[row["bin"]] += records
            if row["call"] == VIRUS:
                sample.virus_nt += row["length_nt_sum"]
    return samples or {name: _Sample()}


def _sums(batch: pa.RecordBatch, name: str) -> pa.Table:
    """Records and nucleotides by sample, call, and bin of what the call goes by."""
    score, chance = (
        batch[column].to_numpy(zero_copy_only=False) for column in ("score", "probability")
    )
    value = np.where(np.isnan(chance), score, chance)
    bins = np.minimum(np.nan_to_num(value) * _BINS, _BINS - 1).astype(np.int64)
    has_samples = "sample" in batch.schema.names
    sample = batch["sample"] if has_samples else pa.nulls(len(batch), pa.string())
    keys = {
        "sample": sample.fill_null(name),
        "call": batch["call"],
        "bin": pa.array(bins, mask=np.isnan(value)),
    }
    rows = pa.table({**keys, "length_nt": batch["length_nt"]})
    return rows.group_by(list(keys)).aggregate([("length_nt", "count"), ("length_nt", "sum")])


def _general(samples: Mapping[str, _Sample]) -> dict[str, Any]:
    return {
        "id": "virnuc_general",
        "plot_type": "generalstats",
        "headers": {key: {"namespace": _NAME, **shown} for key, shown in _COLUMNS.items()},
        "data": {name: sample.statistics for name, sample in samples.items()},
    }


def _calls(samples: Mapping[str, _Sample]) -> dict[str, Any]:
    return {
        **_section("virnuc_calls", "Calls", "Records by call."),
        "plot_type": "bargraph",
        "pconfig": {"id": "virnuc_calls_plot", "title": f"{_NAME}: calls", "ylab": "Records"},
        "categories": {call: {"name": call, "color": colour} for call, colour in _COLOURS.items()},
        "data": {name: dict(sample.calls) for name, sample in samples.items()},
    }


def _values(samples: Mapping[str, _Sample]) -> dict[str, Any]:
    centres = {place: round((place + 0.5) / _BINS, 3) for place in range(_BINS)}
    return {
        **_section("virnuc_values", "How viral", "Records by probability, else score."),
        "plot_type": "linegraph",
        "pconfig": {
            "id": "virnuc_values_plot",
            "title": f"{_NAME}: how viral",
            "xlab": "Probability, or score",
            "ylab": "Records",
            "logswitch": True,
        },
        "data": {
            name: {centre: sample.values[place] for place, centre in centres.items()}
            for name, sample in samples.items()
        },
    }


def _section(identity: str, name: str, description: str) -> dict[str, str]:
    return {
        "id": identity,
        "section_name": name,
        "description": description,
        "parent_id": _NAME,
        "parent_name": _NAME,
        "parent_description": "finds viral records with a DNA and a protein language model.",
    }
