"""What the commands say."""

from __future__ import annotations

import click

from virnuc_dask.errors import harmless


def say(text: str, *, err: bool = False) -> None:
    """Print ``text``; names in it that come from files cannot steer the terminal."""
    click.echo(harmless(text), err=err)
