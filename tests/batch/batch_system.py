"""What the tests need of a batch system that they start on this machine."""

import os
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil
from faulty_runs import Job, wait_until

SBIN = "/usr/sbin"  # where Debian has the daemons, and users no path to


class BatchSystem:
    """One that runs two jobs of a core each, with all its files in ``folder``."""

    cluster: ClassVar[str]  # of --cluster
    needed: ClassVar[tuple[str, ...]]  # commands
    install: ClassVar[str]
    pid_files: ClassVar[tuple[str, ...]]  # of the daemons, as patterns, in the order of their end
    logs: ClassVar[str]  # of jobs, as a pattern
    waits: ClassVar[str]  # state of a job in the queue
    runs: ClassVar[str]  # and of one at work
    told: ClassVar[str]  # what the run tells of one in the queue
    ends_by: ClassVar[str] = "Reason: signal-15"  # what a cancelled worker's log has
    never: ClassVar[tuple[str, ...]] = ("--queue", "closed")  # options of jobs that do not start
    wrong: ClassVar[tuple[str, ...]] = ("--queue", "nosuch")  # that it refuses
    refusal: ClassVar[str]  # what it says then
    directives: ClassVar[tuple[str, ...]] = ()  # by which jobs have the environment of the run

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = _free_ports(3)

    @classmethod
    def why_not_here(cls) -> str:
        """What it takes to start it on this machine; empty if nothing is missing."""
        missing = [name for name in cls.needed if shutil.which(name, path=_path()) is None]
        return f"no {missing[0]}: {cls.install}" if missing else ""

    @property
    def variables(self) -> dict[str, str]:
        """By which its commands know it."""
        raise NotImplementedError

    @property
    def environ(self) -> dict[str, str]:
        return {"PATH": _path(), **self.variables}

    def call(self, *command: str) -> str:
        done = subprocess.run(
            command, env=os.environ | self.environ, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:
        raise NotImplementedError

    def states(self) -> list[tuple[str, str]]:
        """Numbers and states of the jobs that are listed, in the order of their submission."""
        raise NotImplementedError

    def cancel(self, *jobs: str) -> None:
        raise NotImplementedError

    def preempt(self, job: str) -> None:
        """Have it wait in the queue again."""
        raise NotImplementedError

    def jobs(self, *states: str) -> list[str]:
        """Numbers of the jobs that are listed; of those in ``states``, if there are any."""
        return [number for number, state in self.states() if not states or state in states]

    def running(self) -> list[str]:
        return self.jobs(self.runs)

    def left(self) -> list[str]:
        """Jobs that nobody has ended."""
        return self.jobs(self.waits, self.runs)

    def clear(self) -> None:
        """End all jobs."""
        if jobs := self.left():
            self.cancel(*jobs)
        wait_until(lambda: not self.jobs(), 60, 0.2)

    def stop(self) -> None:
        """End the daemons that this started, by their pid files."""
        with suppress(AssertionError):
            self.clear()
        for pattern in self.pid_files:
            for file in self.folder.glob(pattern):
                with suppress(psutil.Error, ValueError):
                    daemon = psutil.Process(int(file.read_text()))
                    daemon.terminate()
                    daemon.wait(30)


def _path() -> str:
    return os.pathsep.join((os.environ["PATH"], SBIN))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def notes(job: Job) -> str:
    return "\n".join(event["message"] for event in job.events("note"))


def assert_no_chunk_is_blamed(job: Job) -> None:
    assert not job.events("partition_failed")
