"""One training: what it was asked for, and the files that it may replace."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from virnuc_dask.config import Settings
from virnuc_dask.errors import OutputExistsError
from virnuc_dask.lab.fitting.options import PARTS, TrainingOptions
from virnuc_dask.lab.modelset_folders import own_files
from virnuc_dask.modelsets.manifest import MANIFEST, ModelSetInfo
from virnuc_dask.planning import chunk_length
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.locks import SOFT, locked
from virnuc_dask.tables.ownership import refuse_loss
from virnuc_dask.tables.parquet import HALF_WRITTEN
from virnuc_dask.tables.paths import writing

_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class Job:
    """What all steps of one training share."""

    virus: tuple[str, ...]
    other: tuple[str, ...]
    out: Path
    settings: Settings
    options: TrainingOptions
    base: Path
    info: ModelSetInfo  # of the base
    resume: bool
    force: bool
    console: Console | None

    @property
    def name(self) -> str:
        """What the new model set is called."""
        return self.options.name or self.out.resolve().name

    @property
    def chunk_length(self) -> int:
        """Of the chunks, in nt."""
        return chunk_length(self.settings, self.info)

    @property
    def work(self) -> Path:
        """Where the run and the frames lie while training."""
        return self.out.with_name(f"{self.out.name}.work")

    @property
    def scratch(self) -> tuple[Path, ...]:
        """Files that lie there besides the run and the model set until it is done."""
        frames = (f"{part}.float16" for part in PARTS)
        return tuple(self.work / name for name in (*frames, "records.fasta"))

    @property
    def run_folder(self) -> RunFolder:
        """The run that makes the features."""
        return RunFolder(self.work / "run")

    @property
    def command(self) -> tuple[str, ...]:
        """The command that trains the same again, defaults spelt out."""
        given = {
            "--model": self.settings.model,
            "-o": self.out,
            "--length": self.chunk_length,
            "--precision": self.settings.precision,
        }
        names = ("split", "groups", "name", "hidden", "epochs", "patience", "seed")
        given |= {f"--{name}": getattr(self.options, name) for name in names}
        texts = (text for flag in given.items() if flag[1] is not None for text in map(str, flag))
        return ("virnuc-dask", "train", "--virus", *self.virus, "--other", *self.other, *texts)

    def refuse_loss(self, keep: Sequence[str | os.PathLike[str]]) -> None:
        """Check that only model sets and what trainings left are replaced, and only if asked to.

        `OutputExistsError` naming a file that would be lost, be it one that is read or one of
        ``keep``.
        """
        if self.out.exists() and not self.force:
            raise OutputExistsError(f"{self.out}: exists already; replace it with --force.")
        self._refuse_strangers()
        if (self.work / "run").exists() and not (self.resume or self.force):
            raise OutputExistsError(
                f"{self.work}: holds an earlier training. Continue it with --resume, or start anew "
                "with --force."
            )
        groups = (self.options.groups,) if self.options.groups else ()
        read = (*self.virus, *self.other, *groups, *keep)
        refuse_loss((*(own_files(self.out) if self.out.exists() else ()), *self.scratch), read)
        if self.run_folder.is_run:
            self.run_folder.refuse_loss(read)

    def _refuse_strangers(self) -> None:
        """The working folder is used only if a training made it: its lock, and names of ours."""
        if not self.work.exists():
            return
        own = {"run", "modelset", _LOCK, _LOCK + SOFT, *(path.name for path in self.scratch)}
        present = {path.name for path in self.work.iterdir() if not path.match(HALF_WRITTEN)}
        if (self.work / "modelset" / MANIFEST).exists():
            list(own_files(self.work / "modelset"))
        if others := present - own if _LOCK in present or _LOCK + SOFT in present else present:
            raise OutputExistsError(
                f"{self.work / min(others)}: is no part of a training, which works in {self.work}. "
                "Move it away, or choose another folder."
            )

    @contextmanager
    def working(self) -> Iterator[None]:
        """Keep other trainings out; a training without a run leaves no folder behind."""
        with writing(self.work):
            self.work.mkdir(parents=True, exist_ok=True)
        with locked(self.work / _LOCK, f"{self.work}: another training is writing here."):
            try:
                yield
            finally:
                if not (self.work / "run").exists():
                    for path in (*self.scratch, self.work / _LOCK):
                        path.unlink(missing_ok=True)
                    with suppress(OSError):
                        self.work.rmdir()
