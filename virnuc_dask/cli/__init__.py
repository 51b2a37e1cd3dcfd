"""The command line: parse, one call, print, exit code."""

from virnuc_dask.cli.program import cli, main

__all__ = ["cli", "main"]
