"""Real runs in real processes, ways to disturb them, and what must hold afterwards."""

import json
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import dask
import psutil
import pyarrow.parquet as pq

INSIDE = Path(__file__).parent / "inside"
# The long forms: minutes of random kills, as `make test-faults` runs them.
LONG = os.environ.get("VIRNUC_FAULTS_LONG") == "1"
SEED = int(os.environ.get("VIRNUC_FAULTS_SEED", "5"))
NO_CLUSTER = ("--cluster", "none")
ONE_WORKER = ("--cluster", "cpu", "--workers", "1")
TWO_WORKERS = ("--cluster", "cpu", "--workers", "2")

CHUNK_LENGTH = 500
MARK = "VIRNUC_FAULTS_MARK"  # a variable by which a run's processes are known
MARKER = "ATGAAATGGTGGATGAAATGGTGGATGCCC"  # as in inside/faulty_encoders.py
_SENSE = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
for _stop in ("TAA", "TAG", "TGA"):
    _SENSE.remove(_stop)


def coding_records(count: int, seed: int, marked: Sequence[int] = ()) -> str:
    """FASTA of open records of one to three chunks; ``marked`` ones carry `MARKER` at the start."""
    draw = random.Random(seed)
    lines = []
    for number in range(count):
        codons = draw.randint(1, 3) * CHUNK_LENGTH // 3
        dna = "".join(draw.choices(_SENSE, k=codons))
        if number in marked:
            dna = MARKER + dna[len(MARKER) :]
        lines.append(f">record{number}\n{dna}\n")
    return "".join(lines)


# A process that has imported what a run imports, and computed nothing: a run that is its fork is as
# good as a new process, and starts three seconds earlier.
_WARM = get_context("forkserver")
_WARM.set_forkserver_preload(
    ["virnuc_dask.cli.running", "virnuc_dask.run", "virnuc_dask.modelsets.lifetime"]
)


class Run:
    """A run that has begun, as `subprocess.Popen` has it; its output goes to files.

    A pipe that is full would stop it.
    """

    def __init__(self, command: list[str], environ: dict[str, str], folder: Path) -> None:
        self._command = command
        self._outputs = [folder / f"{uuid4().hex}.{name}" for name in ("out", "err")]
        self._process = _WARM.Process(target=_be, args=(command[2:], environ, self._outputs))
        self._process.start()
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def poll(self) -> int | None:
        """Exit code as a shell has it, or minus the signal; None while it runs."""
        return self._process.exitcode

    returncode = property(poll)

    def wait(self) -> None:
        """Wait for the end."""
        self._process.join()

    def send_signal(self, number: signal.Signals) -> None:
        """Send it, if the run is not over."""
        if self.returncode is None:
            with suppress(ProcessLookupError):  # by now it is
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once, if it is not over."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; standard output and standard error."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._command, timeout)
        out, err = (path.read_text() for path in self._outputs)
        return out, err


def _be(module_and_arguments: list[str], environ: dict[str, str], outputs: list[Path]) -> None:
    """Be this command: ``python -m`` with its arguments."""
    for number, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), number)
    os.environ.update(environ)
    dask.config.refresh()  # which looks at the environment
    sys.path[:0] = environ["PYTHONPATH"].split(os.pathsep)
    runpy.run_path(str(INSIDE / "sitecustomize.py"))
    sys.argv[1:] = module_and_arguments[1:]
    runpy.run_module(module_and_arguments[0], run_name="__main__", alter_sys=True)


@dataclass
class Job:
    """One run as a command, its environment, and what it leaves."""

    out: Path
    inputs: Path
    options: list[str] = field(default_factory=list)
    faults: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    cluster: tuple[str, ...] = TWO_WORKERS
    mark: str = field(default_factory=lambda: uuid4().hex)
    clients: list[psutil.Process] = field(default_factory=list)  # forks do not show their mark

    def command(self, *more: str) -> list[str]:
        """The command line."""
        return [
            *(sys.executable, "-m", "virnuc_dask", "run", str(self.inputs), "-o", str(self.out)),
            *self.cluster,
            *self.options,
            *more,
        ]

    @property
    def environ(self) -> dict[str, str]:
        """What every process of this run has in its environment."""
        paths = [str(INSIDE), *filter(None, [os.environ.get("PYTHONPATH"), str(Path.cwd())])]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "VIRNUC_FAULTS": json.dumps(self.faults),
            MARK: self.mark,
            "DASK_VIRNUC__CLUSTER__DASHBOARD_PORT": "0",
            **self.environment,
        }

    def start(self, *more: str) -> Run:
        """Begin the run."""
        run = Run(self.command(*more), self.environ, self.inputs.parent)
        self.clients.append(psutil.Process(run.pid))
        return run

    def run(self, *more: str) -> subprocess.CompletedProcess:
        """Run to the end."""
        run = self.start(*more)
        try:
            outputs = run.communicate(timeout=280)
        finally:
            run.kill()
        return subprocess.CompletedProcess(self.command(*more), run.returncode, *outputs)

    def but(self, **changes: Any) -> Self:
        """The same run with something changed."""
        return replace(self, **changes)

    def here(self) -> Self:
        """The same run without faults and without workers: the quickest way to its end."""
        return self.but(faults={}, cluster=NO_CLUSTER)

    def hurry(self) -> None:
        """Let nothing wait any more: what is to be disturbed has been."""
        Path(self.faults["delay_while"]).unlink()

    def processes(self) -> list[psutil.Process]:
        """All processes of this run that are alive, whoever their parents are."""
        return [each for each in psutil.process_iter() if self._has(each)]

    def end(self) -> None:
        """Kill what is alive of it."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # it ended by itself
                process.kill()

    def _has(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            known = process in self.clients or process.environ().get(MARK) == self.mark
            return known and process.status() != psutil.STATUS_ZOMBIE
        return False

    def workers(self) -> list[psutil.Process]:
        """Those that compute."""
        return [each for each in self.processes() if _computes(each)]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Events of the log, which must be whole lines."""
        log = self.out / "run.log.jsonl"
        if not log.exists():
            return []
        lines = log.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]
        return [event for event in map(json.loads, whole) if event["event"] == kind]

    @property
    def summary(self) -> dict[str, Any]:
        """What ``run.json`` says came out."""
        return json.loads((self.out / "run.json").read_text())["summary"]

    def failed(self) -> list[list[str]]:
        """Rows of ``failed.tsv``."""
        return [line.split("\t") for line in (self.out / "failed.tsv").read_text().splitlines()[1:]]


def _computes(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        command = process.cmdline() or [""]
        return command[0].startswith("dask worker") or any("spawn_main" in c for c in command)
    return False


def wait_until(what: Callable[[], Any], timeout_s: float = 120, poll_s: float = 0.02) -> Any:
    """Wait for something to be true, and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(poll_s)
    raise AssertionError(f"not within {timeout_s} s")


def wait_for_partitions(job: Job, count: int) -> None:
    """Wait until so many partitions are done, in all runs into this folder together."""
    wait_until(lambda: len(job.events("partition_done")) >= count)


def assert_no_process_left(job: Job, timeout_s: float = 15) -> None:
    """Everything that the run started goes with it."""
    wait_until(lambda: not job.processes(), timeout_s, poll_s=0.1)


def assert_same_results(job: Job, expected: Job) -> None:
    """The result files, byte by byte, and what the tables hold."""
    for name in ("prediction_results.txt", "prediction_results_highestscore.csv", "contigs.tsv"):
        assert (job.out / name).read_bytes() == (expected.out / name).read_bytes(), name
    ours, theirs = (pq.read_table(j.out / "chunks.parquet") for j in (job, expected))
    assert ours.equals(theirs)
    assert not (job.out / "failed.tsv").exists()
    assert not (job.out / "unfinished").exists()


def assert_nothing_half_written(job: Job) -> None:
    """What bears its final name opens and is whole."""
    for table in job.out.rglob("*.parquet"):
        if not table.name.startswith("."):
            pq.read_table(table)


def interrupt(process: Run, with_signal: signal.Signals) -> tuple[int, str]:
    """Send a signal and wait; returns exit code and standard error."""
    process.send_signal(with_signal)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr
