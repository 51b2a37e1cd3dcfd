"""Snakemake wrapper for ``virnuc-dask run``."""

__author__ = "virnuc_dask developers"
__license__ = "MIT"

from pathlib import Path

from snakemake.shell import shell

# The outputs are files of a run folder, such as results/a/a.contigs.tsv, which comes first.
folder = Path(snakemake.output[0]).parent
prefix = snakemake.params.get("prefix", "")
name = f"--prefix {prefix}" if prefix else ""
restart = snakemake.params.get("restart", "--force")
extra = snakemake.params.get("extra", "")
threads = snakemake.threads
cluster = f"--cluster cpu --workers {threads}" if threads > 1 else "--cluster none"
log = snakemake.log_fmt_shell(stdout=True, stderr=True)

shell(
    "(virnuc-dask run {snakemake.input:q} --out {folder:q} {name} {cluster} --threads 1 "
    "{restart} {extra}) {log}"
)
