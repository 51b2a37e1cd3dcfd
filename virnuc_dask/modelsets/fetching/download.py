"""Files of others, brought here: goes on where it was cut, and is what its checksum says.

Not through huggingface_hub: it throws away what came of a file when its call ends, and knows no
other place.
"""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, build_opener

from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.fetching.published import PublishedFile
from virnuc_dask.modelsets.manifest import sha256
from virnuc_dask.tables.paths import reading, writing

Progress = Callable[[PublishedFile, int, int | None], None]
"""Told of a file, and its bytes: those that are here, and all of them where that is known."""

_TRIES, _PAUSE_S, _TIMEOUT_S = 5, 1.0, 30.0  # tries without a byte between them
_BLOCK = 1 << 20
_LATER = (408, 429, *range(500, 600))  # what servers answer that may serve later
_OFFLINE = ("VIRNUC_OFFLINE", "HF_HUB_OFFLINE")


class UnreachableError(ModelSetError):
    """A place cannot be reached from here."""


def bring(file: PublishedFile, folder: Path, tell: Callable[[str], None], seen: Progress) -> Path:
    """Have ``file`` in ``folder``, checked; download it unless it is there.

    A file of unknown checksum is trusted the first time; its SHA-256 is then written beside it, as
    ``sha256sum -c`` reads it, and what comes later must be the same.

    Raises
    ------
    UnreachableError
        If its place cannot be reached, or a variable says not to try.
    ModelSetError
        If what comes is not what it should be; nothing of it is kept.
    CannotWriteError
        If the disk is full; what came is kept.
    """
    target = folder / file.name
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    record = target.with_name(f"{file.name}.sha256")
    known = file.sha256 or _recorded(record)
    if not _is_here(file, target, known):
        part = target.with_name(f"{file.name}.part")
        if known is None:  # nothing would tell that two halves do not belong together
            part.unlink(missing_ok=True)
        _download(file, part, tell, seen)
        _require(file, part, known)
        with writing(target):
            part.replace(target)
    if known is None:
        known = sha256(target)
        with writing(record):
            record.write_text(f"{known}  {file.name}\n", encoding="utf-8")
        tell(
            f"{file.name}: no checksum of it is published; trusted this first time, and recorded "
            f"in {record}: {known}"
        )
    return target


def _recorded(record: Path) -> str | None:
    if not record.exists():
        return None
    with reading(record):
        return record.read_text(encoding="utf-8").partition(" ")[0].strip()


def _is_here(file: PublishedFile, target: Path, known: str | None) -> bool:
    """Whether the file is here as it should be, or another program has it, which is linked then."""
    if target.exists() and (known is None or sha256(target) == known):
        return True
    other = file.elsewhere
    if known is None or other is None or not other.is_file() or sha256(other) != known:
        return False
    with writing(target):
        target.unlink(missing_ok=True)
        target.symlink_to(other.resolve())
    return True


def _require(file: PublishedFile, part: Path, known: str | None) -> None:
    if known is None or (found := sha256(part)) == known:
        return
    part.unlink()
    raise ModelSetError(
        f"{file.url}: refused, its SHA-256 is {found} and should be {known}. It was damaged on the "
        "way, or is another file now. Fetch again; if that does not help, ask its authors."
    )


def _download(file: PublishedFile, part: Path, tell: Callable[[str], None], seen: Progress) -> None:
    if offline := [name for name in _OFFLINE if _is_set(name)]:
        raise UnreachableError(f"{file.url}: not asked for, {offline[0]} is set.")
    tell(f"{file.name} from {file.url}")
    idle = 0
    while True:
        before = _size(part)
        try:
            return _append(file, part, seen)
        except ValueError as error:
            raise ModelSetError(f"{file.url}: no address (HF_ENDPOINT?): {error}.") from error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, HTTPError) and error.code not in _LATER:
                raise ModelSetError(
                    f"{file.url}: the server answers {error.code} {error.reason}. If you have the "
                    f"file, put it into {part.parent} and fetch again."
                ) from error
            idle = idle + 1 if _size(part) <= before else 0
            if idle == _TRIES:
                why = getattr(error, "reason", None) or str(error) or type(error).__name__
                raise UnreachableError(f"{file.url}: cannot be reached ({why}).") from error
            time.sleep(_PAUSE_S * idle)


def _append(file: PublishedFile, part: Path, seen: Progress) -> None:
    """Ask for what is missing of ``part``, and write it; what the network raises if it is cut."""
    done = _size(part)
    if file.size is not None and done >= file.size:
        return  # its checksum tells whether it is right
    headers = {"User-Agent": "virnuc-dask"} | ({"Range": f"bytes={done}-"} if done else {})
    request = Request(file.url, headers=headers)
    with build_opener().open(request, timeout=_TIMEOUT_S) as response:  # by the proxies of now
        done = done if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        if total is not None and file.size not in (None, total):
            raise ModelSetError(
                f"{file.url}: has {total:,} bytes now and should have {file.size:,}; not taken. "
                "Ask its authors."
            )
        with writing(part):
            stream = part.open("r+b" if done else "wb")
        with stream:
            stream.seek(done)
            while block := response.read(_BLOCK):
                with writing(part):
                    stream.write(block)
                    stream.flush()
                done += len(block)
                seen(file, done, total)
    if total is not None and done < total:
        raise ConnectionError(f"cut after {done:,} of {total:,} bytes")


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE")
