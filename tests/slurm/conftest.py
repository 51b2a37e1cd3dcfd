"""A real Slurm on loopback: two nodes of one core each."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from faulty_runs import Job, wait_until
from faulty_sets import faulty_modelset, make_job, undisturbed  # noqa: F401

SBIN = "/usr/sbin"  # where Debian has the daemons, and users no path to
NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")

_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
KillWait=10
Licenses=gpu:2
NodeName=n1 NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=8000
NodeName=n2 NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=8000
PartitionName=main Nodes=n1,n2 Default=YES State=UP
PartitionName=closed Nodes=n1,n2 State=DOWN
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slurm)
            item.add_marker(pytest.mark.xdist_group("slurm"))


@dataclass
class Slurm:
    """What a user of it does."""

    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        path = os.pathsep.join((os.environ["PATH"], SBIN))
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    def call(self, *command: str) -> str:
        done = subprocess.run(
            command, env=os.environ | self.environ, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def jobs(self, *states: str) -> list[str]:
        """Numbers of the jobs that wait, run or end; of those in ``states``, if there are any."""
        chosen = ("-t", ",".join(states)) if states else ()
        return sorted(self.call("squeue", "-h", "-o", "%i", *chosen).split(), key=int)

    def start(self) -> None:
        (self.folder / "state").mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o400)
        text = _CONFIGURATION.format(
            folder=self.folder,
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            ports=_free_ports(3),
        )
        (self.folder / "slurm.conf").write_text(text)
        places = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log"}
        places |= {"seed-file": "seed"}
        names = [f"--{name}={self.folder}/munge.{end}" for name, end in places.items()]
        self.call("munged", "--force", *names)
        self.call("slurmctld", "-i", "-c")
        for node in ("n1", "n2"):
            self.call("slurmd", "-N", node)
        wait_until(lambda: self.call("sinfo", "-h", "-p", "main", "-o", "%t %D") == "idle 2\n", 60)

    def stop(self) -> None:
        """End the daemons that this started, by their pid files."""
        with suppress(AssertionError):
            self.call("scancel", "-u", getpass.getuser())
            wait_until(lambda: not self.jobs(), 30, 0.2)
        for name in ("slurmd-n1", "slurmd-n2", "slurmctld", "munge"):
            with suppress(OSError, ValueError):
                os.kill(int((self.folder / f"{name}.pid").read_text()), signal.SIGTERM)
        time.sleep(1)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    path = os.pathsep.join((os.environ["PATH"], SBIN))
    if missing := [name for name in NEEDED if shutil.which(name, path=path) is None]:
        pytest.skip(f"no {missing[0]}: apt-get install slurm-wlm munge")
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


@pytest.fixture
def job(slurm, make_job, tmp_path) -> Iterator[Job]:  # noqa: F811
    """A run on two jobs, slowly: there is time to disturb it."""
    started = make_job(tmp_path).but(
        faults={"delay_s": 0.3},
        cluster=("--cluster", "slurm", *["--jobs", "2", "--job-cores", "1", "--job-memory", "4GB"]),
        environment=slurm.environ
        | {
            "HOME": str(tmp_path),
            "DASK_VIRNUC__CLUSTER__JOBS__INTERFACE": "lo",
            "DASK_VIRNUC__CLUSTER__JOBS__POLL_S": "1",
        },
    )
    yield started
    started.end()
    slurm.call("scancel", "-u", getpass.getuser())
    wait_until(lambda: not slurm.jobs(), 60, 0.2)
