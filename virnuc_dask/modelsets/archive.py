"""A model set as one file, to be passed on: a plain tar archive. Weights do not compress."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path
from uuid import uuid4

from virnuc_dask.errors import ModelSetError, UsageError
from virnuc_dask.modelsets.manifest import (
    CARD,
    EMBEDDED,
    MANIFEST,
    ModelSetInfo,
    kept,
    read_info,
    verified,
    verify,
)
from virnuc_dask.tables.paths import reading, writing

_MOST_FILES = 64


def export(folder: Path, target: Path) -> ModelSetInfo:
    """Write the model set of ``folder`` into the archive ``target``, whole or not at all.

    It holds the manifest, the card and the files that are loaded, checked; its bytes depend on
    theirs alone. `UsageError` if ``target`` is there, `ModelSetError` if a file is damaged.
    """
    info, card = read_info(folder), folder / CARD
    names = [MANIFEST, *sorted(info.files)]
    names += [CARD] if card.is_file() and not card.is_symlink() else []
    part = target.with_name(f".{target.name}.{uuid4().hex[:12]}.part")
    with writing(target):
        if target.exists():
            raise UsageError(f"{target}: exists already. Remove it or choose another name.")
        try:
            with tarfile.open(part, "w") as packed, verified(folder, info):
                for name in names:
                    member = tarfile.TarInfo(name)  # without owner and date, for all to read
                    member.size = (folder / name).stat().st_size
                    with (folder / name).open("rb") as stream:
                        packed.addfile(member, stream)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    return info


def add(archive: Path, name: str | None = None) -> tuple[Path, ModelSetInfo]:
    """Unpack what `export` wrote into the folder of kept model sets; returns its place there.

    It is called ``name``, or what its manifest says. It appears complete and checked or not at
    all. `ModelSetError` if the archive is damaged or holds anything else, `UsageError` if there is
    one of that name.
    """
    scratch = kept() / f".{uuid4().hex[:12]}.add"
    with writing(scratch):
        scratch.mkdir(parents=True)
    try:
        _unpack(archive, scratch)
        info = read_info(scratch)
        found = {path.name for path in scratch.iterdir()}
        if others := ", ".join(sorted(found - {MANIFEST, CARD, *info.files})):
            raise ModelSetError(f"{archive}: refused, no part of a model set: {others}.")
        verify(scratch, info)
        folder = kept() / _plain(name or info.name)
        with writing(folder):
            if folder.exists():
                raise UsageError(f"{folder}: is there already. Remove it, or give a --name.")
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder, info


def _unpack(archive: Path, folder: Path) -> None:
    """Copy the plain files of an archive: nothing of it but names and content is used."""
    with reading(archive):
        stream = archive.open("rb")
    try:
        with stream, tarfile.open(fileobj=stream, mode="r:") as packed, writing(folder):
            for number, member in enumerate(packed):
                name = member.name
                plain = member.isreg() and not member.issparse() and Path(name).name == name
                if not plain or number >= _MOST_FILES or (folder / name).exists():
                    raise ModelSetError(f"{archive}: refused, no plain file of a set: {name!r}.")
                with (folder / name).open("xb") as copy:
                    shutil.copyfileobj(packed.extractfile(member) or stream, copy)
    except (tarfile.TarError, EOFError) as error:
        raise ModelSetError(
            f"{archive}: damaged, or not what `models export` writes ({error})."
        ) from error


def _plain(name: str) -> str:
    """A name that a folder can have, and that calls this model set alone."""
    if Path(name).name != name or not name.isprintable() or name[0] in ".-" or name in EMBEDDED:
        raise UsageError(f"a model set cannot be called {name!r} here; give another --name.")
    return name
