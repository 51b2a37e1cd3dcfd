"""Model sets that are replaced: whole, and with nothing of anybody else's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from virnuc_dask.errors import ModelSetError, OutputExistsError
from virnuc_dask.modelsets.manifest import MANIFEST, read_info

_BESIDE = (MANIFEST, "README.md", "training.json")  # what a model set has besides what is loaded


def own_files(folder: Path) -> Iterator[Path]:
    """The files of a model set, those that are there.

    `OutputExistsError` if anything else is in the folder, or it is no model set: it must not be
    replaced.
    """
    try:
        names = {*_BESIDE, *read_info(folder).files}
    except ModelSetError as error:
        raise OutputExistsError(f"{folder}: is no model set; choose another folder.") from error
    for path in sorted(folder.iterdir()):
        if path.name not in names or path.is_dir():
            raise OutputExistsError(
                f"{path}: is no part of a model set, and would be lost. Move it away, or choose "
                "another folder."
            )
        yield path


def put_in_place(new: Path, out: Path) -> None:
    """Rename ``new`` to ``out``; a model set that is there goes when the new one is in its place.

    `OutputExistsError` as of `own_files`; nothing is touched then.
    """
    out = out.resolve()
    if not out.exists():
        new.rename(out)
        return
    earlier = [path.name for path in own_files(out)]
    aside = out.with_name(f".{out.name}.{uuid4().hex[:12]}.old")
    out.rename(aside)
    new.rename(out)
    for name in earlier:
        (aside / name).unlink()
    with suppress(OSError):
        aside.rmdir()
