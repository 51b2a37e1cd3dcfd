"""What MultiQC shows of a run, and ``versions.yml``: written for pipelines."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from virnuc_dask.modelsets.manifest import ModelSetInfo
from virnuc_dask.outputs.contig_table import read_contig_table
from virnuc_dask.stages.calls import VIRUS
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import write_text
from virnuc_dask.tables.paths import writing
from virnuc_dask.tables.result_files import FOR_MULTIQC, MULTIQC, VERSIONS

_BINS = 20  # of the histogram
_COLUMNS = ("sample", "call", "length_nt", "score", "probability")


@dataclass
class _Sample:
    """What MultiQC is told of a sample."""

    calls: Counter[str] = field(default_factory=Counter)  # records
    bins: Counter[int] = field(default_factory=Counter)  # records by what their calls go by
    virus_nt: int = 0

    def shown(self) -> tuple[Mapping[Any, float], ...]:
        """Its data for each file, in the order of ``multiqc.yaml``."""
        records, virus = self.calls.total(), self.calls[VIRUS]
        general: dict[str, float] = {"records": records, "virus": virus, "virus_nt": self.virus_nt}
        general["virus_percent"] = 100 * virus / max(1, records)
        values = {round((place + 0.5) / _BINS, 3): self.bins[place] for place in range(_BINS)}
        return general, self.calls, values


def write_for_pipelines(folder: RunFolder, info: ModelSetInfo) -> None:
    """Write what MultiQC reads and ``versions.yml``, from the run's ``contigs.tsv``.

    A row is a sample where there are several, else the run, by its prefix or its folder: the files
    of many runs are often called alike.
    """
    samples = _samples(folder, folder.prefix or folder.path.absolute().name)
    shown = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    for name, sample in samples.items():
        for section, data in zip(shown.values(), sample.shown(), strict=True):
            section.setdefault("data", {})[name] = data
    versions = {"virnuc_dask": version("virnuc-dask"), f"modelset_{info.name}": info.version}
    listed = yaml.safe_dump({"virnuc_dask": versions}, indent=4, sort_keys=False)
    with writing(folder.path / MULTIQC):
        (folder.path / MULTIQC).mkdir(exist_ok=True)
    for file, text in zip(FOR_MULTIQC, (*map(json.dumps, shown.values()), listed), strict=True):
        write_text(folder.output(f"{MULTIQC}/{file}"), text)
    write_text(folder.output(VERSIONS), listed)


def _samples(folder: RunFolder, name: str) -> Mapping[str, _Sample]:
    """By name; ``name`` is that of records without a sample."""
    samples: dict[str, _Sample] = defaultdict(_Sample)
    for contigs in read_contig_table(folder.output("contigs.tsv"), _COLUMNS):
        for row in _sums(contigs).to_pylist():
            sample, records = samples[row["sample"] or name], row["length_nt_count"]
            sample.calls[row["call"]] += records
            if row["bin"] is not None:
                sample.bins[row["bin"]] += records
            if row["call"] == VIRUS:
                sample.virus_nt += row["length_nt_sum"]
    return samples if len(samples) > 1 else {name: next(iter(samples.values()), _Sample())}


def _sums(contigs: pa.Table) -> pa.Table:
    """Records and nucleotides by sample, call, and bin of what the call goes by."""
    value = pc.coalesce(contigs["probability"], contigs["score"])
    bins = pc.min_element_wise(pc.floor(pc.multiply(value, _BINS)), _BINS - 1, skip_nulls=False)
    rows = contigs.append_column("bin", bins.cast(pa.int64()))
    by = rows.group_by(["sample", "call", "bin"], use_threads=False)
    return by.aggregate([("length_nt", "count"), ("length_nt", "sum")])
