"""``models``: list, show, verify and import model sets."""

from __future__ import annotations

from pathlib import Path

import click

from virnuc_dask.cli.options import InputPath, InputText, OutputPath
from virnuc_dask.cli.terminal import say
from virnuc_dask.modelsets import manifest


@click.group()
def models() -> None:
    """List, show, verify and import model sets."""


@models.command("list")
def models_list() -> None:
    """Name the embedded model sets."""
    for name in manifest.EMBEDDED:
        info = manifest.read_info(manifest.find(name))
        lengths = ", ".join(map(str, info.chunk_lengths))
        reads = "genes" if info.reads_genes else f"chunks of {lengths} nt"
        encoders = f"{info.nucleotide.architecture} + {info.peptide.architecture}"
        say(f"{name}\t{info.version}\t{reads}\t{encoders}")


@models.command("show")
@click.argument("name", type=InputText())
def models_show(name: str) -> None:
    """Print the model card and the checksums of a model set."""
    folder = manifest.find(name)
    info = manifest.read_info(folder)
    card = folder / "README.md"
    if card.is_file():
        say(card.read_text(encoding="utf-8"))
    say(f"folder    {folder}\nchecksum  {info.checksum}")
    for file, digest in info.files.items():
        say(f"  {digest}  {file}")


@models.command("verify")
@click.argument("name", type=InputText())
def models_verify(name: str) -> None:
    """Compare every file of a model set with its SHA-256."""
    folder = manifest.find(name)
    info = manifest.read_info(folder)
    manifest.verify(folder, info)
    say(f"{info.name} {info.version}: {len(info.files)} files are what they should be.")


@models.command("import")
@click.option("--name", required=True, help="What the model set is to be called.")
@click.option("--out", required=True, type=OutputPath(), help="Folder to make.")
@click.option(
    "--length",
    "lengths",
    required=True,
    type=int,
    multiple=True,
    help="Chunk length of the classifier, in nt; the first is the default.",
)
@click.option(
    "--dnabert-s",
    required=True,
    type=InputPath(),
    help="Hugging Face folder of DNABERT-S.",
)
@click.option(
    "--esm2",
    required=True,
    type=InputPath(),
    help="ESM-2 as a fair-esm .pt file or a Hugging Face folder.",
)
@click.option(
    "--classifier",
    required=True,
    type=InputPath(),
    help="The published .pth, or safetensors.",
)
@click.option(
    "--weights",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    help="What to store the encoders' weights in; the precision of your runs loads fastest. "
    "Default: as published.",
)
def models_import(
    name: str,
    out: Path,
    lengths: tuple[int, ...],
    dnabert_s: Path,
    esm2: Path,
    classifier: Path,
    weights: str | None,
) -> None:
    """Make a model set from published checkpoints; no pickle in them is executed."""
    from virnuc_dask.modelsets.importing.modelset import Checkpoints, import_modelset

    checkpoints = Checkpoints(dnabert_s, esm2, classifier)
    info = import_modelset(name, out, lengths, checkpoints, weights)
    say(f"{out}: model set {info.name!r}, {info.feature_dim} features, {info.checksum[:12]}")
