"""The names of the files that a run leaves for its user."""

from __future__ import annotations

from pathlib import Path

VERSIONS = "versions.yml"
MULTIQC = "multiqc"  # a folder, and what is in it
FOR_MULTIQC = (
    "virnuc_general_mqc.json",
    "virnuc_calls_mqc.json",
    "virnuc_values_mqc.json",
    "virnuc_mqc_versions.yml",
)
_OUTPUTS = (
    "chunks.parquet",
    "genes.parquet",
    *(f"virus_regions.{kind}" for kind in ("tsv", "bed", "gff3", "fasta")),
    "contigs.tsv",
    "contigs.parquet",
    "pairs.tsv",
    "virus.fasta",
    "prediction_results.txt",
    "prediction_results_highestscore.csv",
    "failed.tsv",
    "report.html",
    "virus_summary.tsv",
    *(f"{MULTIQC}/{name}" for name in FOR_MULTIQC),
    VERSIONS,
)


def prefixed(prefix: str, name: str) -> str:
    """The name of a result file of a run with this prefix."""
    folder, _, file = name.rpartition("/")
    return name if not prefix or name == VERSIONS else str(Path(folder, f"{prefix}.{file}"))


def outputs_of(prefix: str = "") -> list[str]:
    """Names of the files that a run with this prefix leaves for its user."""
    return [prefixed(prefix, name) for name in _OUTPUTS]
