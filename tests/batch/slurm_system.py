"""A real Slurm on loopback: two nodes of one core each."""

import getpass
import os
import socket

from batch_system import BatchSystem
from faulty_runs import wait_until

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


class Slurm(BatchSystem):
    cluster = "slurm"
    needed = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
    install = "apt-get install slurm-wlm munge"
    pid_files = ("slurmd-*.pid", "slurmctld.pid", "munge.pid")
    logs = "virnuc-*.err"
    waits, runs = "PD", "R"
    told = "squeue says: PENDING, Resources"
    refusal = "Invalid partition"

    @property
    def variables(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def states(self) -> list[tuple[str, str]]:
        lines = self.call("squeue", "-h", "-S", "i", "-o", "%i %t").splitlines()
        return [(number, state) for number, state in map(str.split, lines)]

    def cancel(self, *jobs: str) -> None:
        self.call("scancel", *jobs)

    def preempt(self, job: str) -> None:
        self.call("scontrol", "requeue", job)

    def start(self) -> None:
        (self.folder / "state").mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o400)
        text = _CONFIGURATION.format(
            folder=self.folder,
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            ports=self.ports,
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
