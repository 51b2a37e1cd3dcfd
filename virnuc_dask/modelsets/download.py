"""Files of others, brought here: goes on where it was cut, and is what its checksum says.

Not through huggingface_hub: it throws away what came of a file when its call ends, and knows no
other place.
"""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, build_opener

from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.manifest import sha256
from virnuc_dask.modelsets.published import PublishedFile
from virnuc_dask.tables.paths import writing

_TRIES, _PAUSE_S, _TIMEOUT_S = 5, 1.0, 30.0  # tries without a byte between them
_BLOCK = 1 << 20
_LATER = (408, 429, *range(500, 600))  # what servers answer that may serve later


class UnreachableError(ModelSetError):
    """A place cannot be reached from here, or is not to be."""


class Watch(NamedTuple):
    """Who is told: lines for people; of a file, the bytes that are here, and all if known."""

    tell: Callable[[str], None]
    came: Callable[[PublishedFile, int, int | None], None]


def bring(file: PublishedFile, folder: Path, watch: Watch) -> Path:
    """Have ``file`` in ``folder``, checked; download it unless it is there.

    A file of unknown checksum is trusted the first time; its SHA-256 is then written beside it, as
    ``sha256sum -c`` reads it, and what comes later must be the same. `UnreachableError` if its
    place cannot be reached, `ModelSetError` if what comes is not what it should be, and nothing of
    it is kept; `CannotWriteError` if the disk is full, and what came is kept.
    """
    target, record, part = (folder / f"{file.name}{end}" for end in ("", ".sha256", ".part"))
    other = file.elsewhere
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        recorded = record.read_text().split() if record.exists() else []
        known = file.sha256 or next(iter(recorded), None)  # empty where the disk was full
        if target.exists() and (known is None or sha256(target) == known):
            pass
        elif known and other is not None and other.is_file() and sha256(other) == known:
            target.unlink(missing_ok=True)
            target.symlink_to(other.resolve())
        else:
            if known is None:  # nothing would tell that two halves do not belong together
                part.unlink(missing_ok=True)
            _download(file, part, watch)
            if known not in (None, found := sha256(part)):
                part.unlink()
                raise ModelSetError(
                    f"{file.url}: refused, its SHA-256 is {found} and should be {known}. It was "
                    "damaged on the way, or is another file now. Fetch again, or ask its authors."
                )
            part.replace(target)
        if known is None:
            known = sha256(target)
            record.write_text(f"{known}  {file.name}\n")
            watch.tell(
                f"{file.name}: no checksum of it is published; trusted this first time, and "
                f"recorded in {record}: {known}"
            )
    return target


def _download(file: PublishedFile, part: Path, watch: Watch) -> None:
    for variable in ("VIRNUC_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE"):
            raise UnreachableError(f"{file.url}: not asked for, {variable} is set.")
    watch.tell(f"{file.name} from {file.url}")
    idle = 0
    while True:
        before = _size(part)
        try:
            return _append(file, part, watch)
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


def _append(file: PublishedFile, part: Path, watch: Watch) -> None:
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
            stream = part.open("r+b" if done else "wb", buffering=0)
        with stream:
            stream.seek(done)
            while block := response.read(_BLOCK):
                with writing(part):
                    done += stream.write(block)
                watch.came(file, done, total)
    if total is not None and done < total:
        raise ConnectionError(f"cut after {done:,} of {total:,} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
