"""What a command may replace or remove: files that it made, and none that it reads.

A folder is known by a file that only we write there; in it the names of `made` are ours. What a
finished command left is listed in that file with its size, so that a file which somebody put under
one of our names, or changed, is told apart. Until it is finished all of its names are its own.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from virnuc_dask.errors import OutputExistsError
from virnuc_dask.tables.paths import STDIN


def sizes(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """Bytes of the files of these names, those that are there."""
    found = {}
    for name in names:
        with suppress(OSError):
            found[name] = (folder / name).lstat().st_size
    return found


def made(folder: Path, names: Iterable[str], listed: Mapping[str, int] | None) -> Iterator[Path]:
    """The files of these names that a command made: those ``listed``, all where nothing is."""
    for name in names:
        with suppress(OSError):
            state = (folder / name).lstat()
            is_known = listed is None or listed.get(name) == state.st_size
            if is_known and stat.S_ISREG(state.st_mode):
                yield folder / name


def refuse_others(
    folder: Path, names: Sequence[str], listed: Mapping[str, int] | None, what: str
) -> None:
    """`OutputExistsError` if another file than a command's own has a name that it writes."""
    own = set(made(folder, names, listed))
    for name in sizes(folder, names):
        if folder / name not in own:
            raise OutputExistsError(
                f"{folder / name}: is not as {what} left it, and would be replaced. Move it "
                "away, or choose another folder."
            )


def refuse_loss(doomed: Iterable[Path], read: Iterable[str | os.PathLike[str]]) -> None:
    """`OutputExistsError` if a file that shall go is one that the command reads, by whatever name.

    ``read`` are files, folders of files, and ``-`` for standard input.
    """
    reads = dict(_identities(read))
    for path in doomed if reads else ():
        for state in _states(path):
            if name := reads.get((state.st_dev, state.st_ino)):
                raise OutputExistsError(
                    f"{name}: is read, and would be lost: {path} is replaced. Choose another "
                    "folder for the results."
                )


def _identities(read: Iterable[str | os.PathLike[str]]) -> Iterator[tuple[tuple[int, int], str]]:
    for name in (os.fspath(path) for path in read):
        with suppress(OSError, ValueError, AttributeError):  # whoever reads it will tell
            if name == STDIN:
                state = os.fstat(sys.stdin.fileno())
                yield (state.st_dev, state.st_ino), "standard input"
                continue
            for path in (Path(name), *(Path(name).iterdir() if Path(name).is_dir() else ())):
                yield (path.stat().st_dev, path.stat().st_ino), str(path)


def _states(path: Path) -> Iterator[os.stat_result]:
    """A path's own state, and that of what it links to."""
    for look in (path.lstat, path.stat):
        with suppress(OSError):
            yield look()
