"""The run folder: where everything of a run lies, who holds it, and what in it is a run's own."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from virnuc_dask.config import PREFIX
from virnuc_dask.errors import OutputExistsError, PlanChangedError
from virnuc_dask.tables.locks import SOFT, locked
from virnuc_dask.tables.ownership import made, refuse_loss, refuse_others, sizes
from virnuc_dask.tables.parquet import HALF_WRITTEN, read_fingerprint
from virnuc_dask.tables.paths import writing
from virnuc_dask.tables.result_files import MULTIQC, outputs_of, prefixed

_TABLES = ("partitions", "features", "predictions")
_OF_JOBS = ("virnuc*", "worker-*", ".dask-jobqueue*")  # logs, certificates
_LOCK = ".lock"
_STAGE = ".virnuc-plan"  # a plan in the making
_TABLE = re.compile(r"part-(\d{5,})\.parquet")
_MARK = f"part-{'[0-9]' * 5}*.attempt"
_LONGEST_LINE = 1 << 16  # bytes of the log's first line that are looked at


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside one run's output folder.

    ``prefix`` stands, with a dot, before the names of all result files but `result_files.VERSIONS`.
    """

    path: Path
    prefix: str = ""

    @classmethod
    def of_run(cls, path: Path) -> Self:
        """The folder of a run that was planned, with its prefix."""
        return cls(path, cls(path)._recorded_prefix())

    def named(self, prefix: str | None, *, resume: bool) -> Self:
        """The folder for a run with this prefix; one that is resumed keeps its own.

        `PlanChangedError` if the run to be resumed has another.
        """
        recorded = self._recorded_prefix()
        if resume and self._earlier():
            if prefix not in (None, recorded):
                raise PlanChangedError(
                    f"{self.path}: the names of the run's files begin with {recorded!r}, now "
                    f"{prefix!r}. Resume without --prefix, or start anew with --force."
                )
            prefix = recorded
        return replace(self, prefix=prefix or "")

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
        """Marks of what is being computed, and of what killed its worker."""
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
        """Events of the runs here, one JSON object a line."""
        return self.path / "run.log.jsonl"

    @property
    def jobs(self) -> Path:
        """What the jobs of a batch system wrote; as the log, the folder's history."""
        return self.path / "jobs"

    @property
    def token(self) -> Path:
        """By which workers tell that they see this very folder; there while they compute."""
        return self.path / ".virnuc-token"

    def output(self, name: str) -> Path:
        """One of the files that a run leaves for its user."""
        return self.path / prefixed(self.prefix, name)

    def outputs(self) -> dict[str, Path]:
        """Of these, the ones that are there, by their names without a prefix."""
        return {name: self.output(name) for name in outputs_of() if self.output(name).is_file()}

    def output_sizes(self) -> dict[str, int]:
        """Bytes of the files that a finished run left for its user: ``outputs`` of ``run.json``."""
        return sizes(self.path, outputs_of(self.prefix))

    @property
    def is_run(self) -> bool:
        """Whether a run of ours lies here: its ``run.json``, or the log of one without a plan."""
        return bool(self._earlier()) or _is_log(self.log)

    @property
    def _stage(self) -> RunFolder:
        return RunFolder(self.path / _STAGE)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs out while this one writes.

        `OutputExistsError` if it holds files and is no run's; nothing is written there then.
        `OutputInUseError` if another run holds it. `BadOutputError`, `CannotWriteError` if it
        cannot be made, or written.
        """
        refusal = "another run is writing here. Wait for it, or choose another folder."
        with ExitStack() as stack:
            with writing(self.path):
                self._refuse_strangers()
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self.path / _LOCK, f"{self.path}: {refusal}"))
                self._settle()
            yield

    def prepare(
        self, *, resume: bool, force: bool, read: Iterable[str | os.PathLike[str]] = ()
    ) -> None:
        """Make the folder ready for a run; an earlier one stays as it is until a plan stands.

        `OutputExistsError` if there is one and neither ``resume`` nor ``force`` is set, or a file
        would be lost that no run made, or that is ``read``: inputs, presets, the model set.
        """
        self._refuse_strangers()
        if self._holds_run() and not (resume or force):
            raise OutputExistsError(
                f"{self.path}: there is a run here already. Continue it with --resume, "
                "start anew with --force, or choose another folder."
            )
        with writing(self.path):
            self.refuse_loss(read)
            for name in _TABLES:
                (self.path / name).mkdir(exist_ok=True)

    def refuse_loss(self, read: Iterable[str | os.PathLike[str]]) -> None:
        """`OutputExistsError` if writing results takes a file that is ``read``, or no run made."""
        if self.run_json.exists() and self._earlier() is None:
            raise OutputExistsError(f"{self.run_json}: is no run's; choose another folder.")
        listed = self._listed()
        if self.prefix != self._recorded_prefix():
            listed = listed or {}  # an unfinished run has made files of its prefix only
        refuse_others(self.path, outputs_of(self.prefix), listed, "the run")
        refuse_loss((*self._made(), self.run_json, self.log), read)

    @contextmanager
    def planning(self) -> Iterator[RunFolder]:
        """A folder for a plan in the making, whose partitions replace those here at the end.

        If the block leaves a ``run.json`` there, the plan is another run's: from that moment on
        the earlier run is gone, and whoever opens the folder next ends what was begun. Without,
        only partitions move. An error before leaves everything as it was.
        """
        stage = self._stage
        stage._drop()
        (stage.path / "partitions").mkdir(parents=True)
        try:
            yield stage
            if not stage.run_json.exists():
                stage._move_partitions(self)
            self._settle()
        finally:
            if not stage.run_json.exists():
                stage._drop()

    def require_free(self, partitions: int) -> None:
        """`OutputExistsError` if a table of so many partitions takes a file that no run made."""
        planned = self._planned()
        for path, index in self._numbered():
            if index < partitions and not _is_own(path, index, planned):
                raise OutputExistsError(
                    f"{path}: was made by no run, and would be replaced. Move it away, or choose "
                    "another folder."
                )

    def clear(self) -> None:
        """Remove what a run made, and nothing else; last of all ``run.json``, which lists it."""
        for path in self._made():
            path.unlink(missing_ok=True)
        self.sweep()
        for path in self.unfinished.glob(_MARK):
            path.unlink(missing_ok=True)
        _remove_if_empty(self.unfinished)
        _remove_if_empty(self.path / MULTIQC)
        if self._earlier() is not None:
            self.run_json.unlink()

    def remove(self) -> None:
        """Remove a run with its log; the folder stays if anything else is in it."""
        if self.is_run:
            self.clear()
            of_jobs = itertools.chain(*(self.jobs.glob(name) for name in _OF_JOBS))
            for path in (self.log, self.path / _LOCK, *of_jobs):
                path.unlink(missing_ok=True)
            for place in (self.jobs, *(self.path / name for name in _TABLES), self.path):
                _remove_if_empty(place)

    def sweep(self) -> None:
        """Remove what a run that was killed left behind: files half written, its token."""
        for place in (self.path, *(self.path / name for name in (*_TABLES, MULTIQC))):
            for path in place.glob(HALF_WRITTEN):
                path.unlink(missing_ok=True)
        self.token.unlink(missing_ok=True)

    def _refuse_strangers(self) -> None:
        """A folder with anything in it is used only if it is a run's."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise OutputExistsError(f"{self.path}: is a file; choose another name.")
        # Workflow managers make the folders of the files that they expect.
        ours = {_LOCK, _LOCK + SOFT, MULTIQC}
        present = {entry.name for entry in self.path.iterdir()} - ours
        if present and not self.is_run:
            raise OutputExistsError(
                f"{self.path}: not empty ({min(present)} …) and no earlier run; "
                "choose another folder."
            )

    def _holds_run(self) -> bool:
        """Whether there is anything to lose: a run whose input was refused left nothing."""
        computed = (self.path / name for name in ("features", "predictions"))
        return self.run_json.exists() or any(any(table.glob("part-*")) for table in computed)

    def _earlier(self) -> Mapping[str, Any] | None:
        """The ``run.json`` here; empty if it is damaged, None if there is none of ours."""
        try:
            content = json.loads(self.run_json.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            return {}
        except OSError:
            return None
        ours = isinstance(content, dict) and {"virnuc_dask", "plan"} <= content.keys()
        return content if ours else None

    def _listed(self) -> Mapping[str, int] | None:
        """The outputs of the run here with their sizes; None where it is not finished.

        Without a plan that stood, there are none.
        """
        earlier = self._earlier()
        if earlier is None:
            return {}
        listed = earlier.get("outputs")
        return listed if isinstance(listed, dict) else None

    def _recorded_prefix(self) -> str:
        """The prefix of the run here."""
        try:
            prefix = (self._earlier() or {})["settings"]["prefix"]
            return prefix if PREFIX.fullmatch(prefix) else ""
        except (KeyError, TypeError):
            return ""

    def _planned(self) -> int:
        """Partitions of the run here."""
        try:
            return len((self._earlier() or {})["plan"]["partitions"])
        except (KeyError, TypeError):
            return 0

    def _numbered(self) -> Iterator[tuple[Path, int]]:
        """Files with the names of tables, and their numbers."""
        for name in _TABLES:
            for path in (self.path / name).glob("part-*.parquet"):
                if found := _TABLE.fullmatch(path.name):
                    yield path, int(found[1])

    def _made(self) -> Iterator[Path]:
        """What a run made here, all but its log and ``run.json``."""
        yield from made(self.path, outputs_of(self._recorded_prefix()), self._listed())
        planned = self._planned()
        for path, index in self._numbered():
            if _is_own(path, index, planned):
                yield path
        if self.records.is_file() and (planned or read_fingerprint(self.records) is not None):
            yield self.records

    def _settle(self) -> None:
        """End what the adoption of a plan began, wherever it was interrupted."""
        stage = self._stage
        if stage.run_json.exists():
            if self._earlier() is not None:
                self.clear()
            stage._move_partitions(self)
            stage.run_json.replace(self.run_json)
        stage._drop()

    def _move_partitions(self, target: RunFolder) -> None:
        """Put the partitions, which are flushed already, in the place of those of ``target``."""
        (target.path / "partitions").mkdir(exist_ok=True)
        for path in (*(path for path, _ in self._numbered()), self.records):
            if path.exists():
                path.replace(target.path / "partitions" / path.name)

    def _drop(self) -> None:
        """Remove a plan that never stood; all in its folder is a run's."""
        if self.path.exists():
            shutil.rmtree(self.path)


def _is_own(path: Path, index: int, planned: int) -> bool:
    """Whether a run made a table: it was planned, or says itself what it was made from."""
    return index < planned or read_fingerprint(path) is not None


def _is_log(path: Path) -> bool:
    """Whether a file is a run's log: its first line is an event, or nothing was written yet."""
    try:
        with path.open("rb") as stream:
            line = stream.readline(_LONGEST_LINE)
        return not line or {"time", "event"} <= json.loads(line).keys()
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
