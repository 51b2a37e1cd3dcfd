"""``models``: fetch, list, show, verify, compare, import, export and add model sets."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import shorten

import click
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from virnuc_dask.cli.options import InputPath, InputText, OutputPath, console
from virnuc_dask.cli.terminal import say
from virnuc_dask.encoders.cost import operations_a_frame
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets import manifest
from virnuc_dask.modelsets.archive import add, export
from virnuc_dask.modelsets.comparison import compare
from virnuc_dask.modelsets.download import Watch
from virnuc_dask.modelsets.fetch import downloads, fetch, plan_lines
from virnuc_dask.modelsets.published import LENGTHS
from virnuc_dask.modelsets.sizes import weight_values

_UNTRAINED = "  (classifier not trained)"
_weights = click.option(
    "--weights",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    help="What to store the encoders' weights in; the precision of your runs loads fastest. "
    "Default: as published.",
)


@click.group()
def models() -> None:
    """Fetch, list, compare, import and pass on model sets."""


@models.command("list")
def models_list() -> None:
    """Name the embedded model sets, and those that were fetched or added."""
    for name in manifest.names():
        try:
            info = manifest.read_info(manifest.find(name))
        except ModelSetError as error:
            say(f"{name}\t{error}")
            continue
        lengths = ", ".join(map(str, info.chunk_lengths))
        reads = "genes" if info.reads_genes else f"chunks of {lengths} nt"
        encoders = f"{info.nucleotide.title} + {info.peptide.title}"
        say(f"{name}\t{info.version}\t{reads}\t{encoders}{'' if info.is_trained else _UNTRAINED}")


@models.command("show")
@click.argument("name", type=InputText())
def models_show(name: str) -> None:
    """Print the model card and the checksums of a model set."""
    folder = manifest.find(name)
    info = manifest.read_info(folder)
    if card := manifest.card_of(name):
        say(card)
    for spec in (info.nucleotide, info.peptide):
        flops = operations_a_frame(spec, info.chunk_lengths[0])
        cost = f", {flops / 1e9:,.1f} GFLOP a frame of {info.chunk_lengths[0]} nt" if flops else ""
        say(f"encoder   {spec.title}: {weight_values(folder / spec.file):,} values{cost}")
    say(f"folder    {folder}\nchecksum  {info.checksum}{'' if info.is_trained else _UNTRAINED}")
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


@models.command("diff")
@click.argument("ours", metavar="A", type=InputText())
@click.argument("theirs", metavar="B", type=InputText())
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def models_diff(ours: str, theirs: str, as_json: bool) -> None:
    """Tell what differs between two model sets: encoders, sizes, checksums, thresholds, quality."""
    found = compare(manifest.find(ours), manifest.find(theirs))
    if as_json:
        say(json.dumps(found, indent=1))
        return
    for what, same in found["same"].items():
        say(f"{what:<12}{'the same' if same else 'differ'}")
    for place, values in found["differences"].items():
        shown = (shorten(json.dumps(value), 60, placeholder=" ...") for value in values)
        say("{}\n  < {}\n  > {}".format(place, *shown))


@models.command("export")
@click.argument("name", type=InputText())
@click.argument("archive", metavar="FILE.tar", type=OutputPath())
def models_export(name: str, archive: Path) -> None:
    """Write a model set into one file, which `models add` takes on another machine."""
    info = export(manifest.find(name), archive)
    say(f"{archive}: model set {info.name!r}, {archive.stat().st_size:,} bytes")


@models.command("add")
@click.argument("archive", metavar="FILE.tar", type=InputPath())
@click.option("--name", help="What to call it here; default: its own name.")
def models_add(archive: Path, name: str | None) -> None:
    """Take a model set from the file that `models export` wrote; --model knows its name then."""
    folder, info = add(archive, name)
    say(f"{folder}: model set {info.name!r}, {info.checksum[:12]}; --model {folder.name} uses it.")


@models.command("fetch")
@click.argument("name", type=click.Choice(list(LENGTHS)))
@_weights
@click.option("--plan", is_flag=True, help="Tell what would be fetched, from where, and end.")
def models_fetch(name: str, weights: str | None, plan: bool) -> None:
    """Fetch a published model set from its authors' places; --model knows its name then.

    What was cut goes on where it stopped; every file is compared with its checksum. VIRNUC_HOME
    says where to (~/.cache/virnuc), HF_ENDPOINT a mirror of the hub, https_proxy a proxy;
    VIRNUC_OFFLINE or HF_HUB_OFFLINE forbids to ask.
    """
    if plan:
        say("\n".join(plan_lines(name)))
        return
    columns = *Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        watch = Watch(
            lambda line: say(line, err=True),
            lambda f, done, total: bar.update(
                task, description=f.name, completed=done, total=total
            ),
        )
        folder, info = fetch(name, weights, watch)
    say(f"{folder}: model set {info.name!r}, {info.checksum[:12]}; --model {name} uses it.")
    say(f"{downloads()}: no longer needed, can be deleted.", err=True)


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
    type=InputPath(),
    help="The published .pth, or safetensors. Left out: encoders alone, for `train`.",
)
@_weights
def models_import(
    name: str,
    out: Path,
    lengths: tuple[int, ...],
    dnabert_s: Path,
    esm2: Path,
    classifier: Path | None,
    weights: str | None,
) -> None:
    """Make a model set from published checkpoints; no pickle in them is executed."""
    from virnuc_dask.modelsets.importing.modelset import Checkpoints, import_modelset

    checkpoints = Checkpoints(dnabert_s, esm2, classifier)
    info = import_modelset(name, out, lengths, checkpoints, weights)
    say(f"{out}: model set {info.name!r}, {info.feature_dim} features, {info.checksum[:12]}")
