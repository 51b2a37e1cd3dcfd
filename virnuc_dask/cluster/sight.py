"""Whether a worker sees the files of a run: the run folder itself, and the model set."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from uuid import uuid4

from virnuc_dask.modelsets.manifest import EMBEDDED, MANIFEST
from virnuc_dask.tables.parquet import write_text

_PATIENCE_S, _PAUSE_S = 3.0, 0.2  # a network disk may show a new file late


@dataclass(frozen=True, slots=True)
class Sight:
    """What a worker must see: a file that the client wrote into the run folder, and its content."""

    token_file: Path
    token: str

    @classmethod
    @contextmanager
    def at(cls, token_file: Path) -> Iterator[Self]:
        """Show a token in this file as long as workers may come."""
        shown = cls(token_file.absolute(), uuid4().hex)
        write_text(shown.token_file, shown.token)
        try:
            yield shown
        finally:
            with suppress(OSError):
                shown.token_file.unlink(missing_ok=True)

    def refusal(self, modelset: str) -> str:
        """What this process does not see, and what to do about it; empty if it sees everything.

        ``modelset`` is the model set's name or folder.
        """
        folder = self.token_file.parent
        if not self._is_seen():
            what = "another folder is there" if folder.is_dir() else "there is no such folder"
            return (
                f"does not see the run folder {folder}: {what}. Choose one that every machine has "
                "under the same path (--out), or workers on this machine."
            )
        if modelset not in EMBEDDED and not (Path(modelset) / MANIFEST).is_file():
            return (
                f"does not see the model set {modelset}. Copy it there, under the same path, or "
                "choose one on a disk that every machine has (--model)."
            )
        return ""

    def _is_seen(self) -> bool:
        deadline = time.monotonic() + _PATIENCE_S
        while not self._is_read():
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE_S)
        return True

    def _is_read(self) -> bool:
        try:
            return self.token_file.read_text(encoding="utf-8") == self.token
        except (OSError, UnicodeDecodeError):
            return False
