"""The run folder: where everything of a run lies, and who holds it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from virnuc_dask.errors import CannotWriteError, OutputExistsError, OutputInUseError

_TABLES = ("partitions", "features", "predictions")
_FILES = (
    "run.json",
    "chunks.parquet",
    "contigs.tsv",
    "virus.fasta",
    "prediction_results.txt",
    "prediction_results_highestscore.csv",
    "failed.tsv",
    "run.log.jsonl",
    ".token",
)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run's output folder."""

    path: Path

    def partition(self, index: int) -> Path:
        """Chunks of a partition."""
        return self.path / "partitions" / f"part-{index:05d}.parquet"

    def features(self, index: int) -> Path:
        """Feature table of a partition."""
        return self.path / "features" / f"part-{index:05d}.parquet"

    def predictions(self, index: int) -> Path:
        """Prediction table of a partition."""
        return self.path / "predictions" / f"part-{index:05d}.parquet"

    @property
    def unfinished(self) -> Path:
        """Pieces of partitions that failed as a whole, and marks of what is being computed."""
        return self.path / "unfinished"

    @property
    def records(self) -> Path:
        """Table of all records, those without a chunk too."""
        return self.path / "partitions" / "records.parquet"

    @property
    def run_json(self) -> Path:
        """Plan, settings and, once the run is done, its summary."""
        return self.path / "run.json"

    @property
    def log(self) -> Path:
        """Events of the run, one JSON object a line."""
        return self.path / "run.log.jsonl"

    @property
    def token(self) -> Path:
        """By which workers tell that they see this very folder; there while they compute."""
        return self.path / ".token"

    def output(self, name: str) -> Path:
        """One of the files that a run leaves for its user."""
        return self.path / name

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out while this one writes.

        Raises
        ------
        OutputExistsError
            If it holds files, and none of them a run's; nothing is written there then.
        OutputInUseError
            If another run holds the folder.
        CannotWriteError
            If it cannot be made, or written.
        """
        self._refuse_strangers()
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise OutputInUseError(
                f"{self.path}: another run is writing here. Wait for it, or choose another folder."
            ) from error
        except OSError as error:
            raise CannotWriteError(f"{self.path}: cannot be written: {error.strerror}.") from error
        try:
            yield
        finally:
            lock.release()

    def prepare(self, *, resume: bool, force: bool) -> None:
        """Make the folder ready for a run.

        Raises
        ------
        OutputExistsError
            If there is an earlier run in it and neither ``resume`` nor ``force`` is set.
        """
        self._refuse_strangers()
        if self._holds_run() and not (resume or force):
            raise OutputExistsError(
                f"{self.path}: there is a run here already. Continue it with --resume, "
                "start anew with --force, or choose another folder."
            )
        if force:
            self._clear()
        for name in _TABLES:
            (self.path / name).mkdir(exist_ok=True)

    def sweep(self) -> None:
        """Remove what a run that was killed left behind: files half written, marks of attempts."""
        for place in (self.path, self.unfinished, *(self.path / name for name in _TABLES)):
            for path in (*place.glob(".*.part"), *place.glob("*.attempt")):
                path.unlink(missing_ok=True)

    def forget_unfinished(self) -> None:
        """Remove the pieces of partitions, once all of these are settled."""
        shutil.rmtree(self.unfinished, ignore_errors=True)

    def _refuse_strangers(self) -> None:
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise OutputExistsError(f"{self.path}: is a file; choose another name.")
        present = {entry.name for entry in self.path.iterdir()} - {".lock"}
        if present and not present & {*_TABLES, *_FILES}:
            raise OutputExistsError(
                f"{self.path}: not empty ({min(present)} …) and no earlier run; "
                "choose another folder."
            )

    def _holds_run(self) -> bool:
        """Whether there is anything to lose: a run whose input was refused left nothing."""
        computed = (self.path / name for name in ("features", "predictions"))
        return self.run_json.exists() or any(any(table.glob("part-*")) for table in computed)

    def _clear(self) -> None:
        """Remove what an earlier run left, and nothing else."""
        for name in (*_TABLES, self.unfinished.name):
            shutil.rmtree(self.path / name, ignore_errors=True)
        for name in _FILES:
            (self.path / name).unlink(missing_ok=True)
