"""A real HTCondor on loopback, all of it the user's own: two slots."""

import os

from batch_system import BatchSystem
from faulty_runs import wait_until

_CONFIGURATION = """
include : /etc/condor/condor_config
LOCAL_DIR = {folder}
LOCAL_CONFIG_FILE =
LOCAL_CONFIG_DIR =
RUN = {folder}/run
LOCK = {folder}/lock
LOG = {folder}/log
SPOOL = {folder}/spool
EXECUTE = {folder}/execute
CONDOR_HOST = 127.0.0.1
COLLECTOR_HOST = 127.0.0.1:0
COLLECTOR_ADDRESS_FILE = {folder}/log/collector
NETWORK_INTERFACE = 127.0.0.1
USE_SHARED_PORT = false
DAEMON_LIST = MASTER COLLECTOR NEGOTIATOR SCHEDD STARTD
SEC_DEFAULT_AUTHENTICATION_METHODS = FS
ALLOW_WRITE = *
ALLOW_DAEMON = *
ALLOW_NEGOTIATOR = *
NUM_CPUS = 2
NUM_SLOTS = 2
MEMORY = 16000
START = true
RUNBENCHMARKS = false
NEGOTIATOR_INTERVAL = 2
NEGOTIATOR_CYCLE_DELAY = 1
SCHEDD_INTERVAL = 2
"""


class HTCondor(BatchSystem):
    cluster = "htcondor"
    needed = ("condor_master", "condor_submit", "condor_q", "condor_rm")
    install = "apt-get install condor (Debian 13)"
    pid_files = ("master.pid",)
    logs = "worker-*.err"
    waits, runs = "1", "2"
    told = "condor_q says: idle"
    never = ("--job-cores", "99")
    directives = ("getenv = True",)
    wrong = ("--job-setup", "true\nfalse")
    refusal = "ERROR"

    @classmethod
    def why_not_here(cls) -> str:
        return super().why_not_here() or ("" if os.getuid() else "it takes no jobs of root")

    @property
    def variables(self) -> dict[str, str]:
        return {"CONDOR_CONFIG": str(self.folder / "condor_config")}

    def states(self) -> list[tuple[str, str]]:
        lines = self.call("condor_q", "-af:j", "JobStatus").splitlines()
        return [(number, state) for number, state in map(str.split, lines)]

    def cancel(self, *jobs: str) -> None:
        self.call("condor_rm", *jobs)

    def preempt(self, job: str) -> None:
        self.call("condor_vacate_job", job)

    def start(self) -> None:
        for name in ("run", "lock", "log", "spool", "execute"):
            (self.folder / name).mkdir()
        (self.folder / "condor_config").write_text(_CONFIGURATION.format(folder=self.folder))
        self.call("condor_master", "-pidfile", str(self.folder / "master.pid"))
        wait_until(lambda: self._slots() == ["Unclaimed", "Unclaimed"], 60, 0.5)

    def _slots(self) -> list[str]:
        try:
            return self.call("condor_status", "-af", "State").split()
        except AssertionError:  # no daemon is there yet
            return []
