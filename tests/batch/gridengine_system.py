"""A real Grid Engine on loopback: one machine with two slots."""

import getpass
import re
import socket
from pathlib import Path

from batch_system import BatchSystem
from faulty_runs import wait_until

_PROGRAMS = Path("/usr/lib/gridengine")  # where Debian has them
_DEFAULTS = Path("/usr/share/gridengine")
_HOST = "localhost"


class GridEngine(BatchSystem):
    cluster = "sge"
    needed = ("sge_qmaster", "sge_execd", "qsub", "qconf")
    install = "apt-get install gridengine-master gridengine-exec gridengine-client"
    pid_files = ("execd/*/execd.pid", "qmaster/qmaster.pid")
    logs = "virnuc.o*"
    waits, runs = "qw", "r"
    told = "qstat says: qw"
    ends_by = ""  # it kills at once
    directives = ("-V",)
    refusal = 'unknown queue "nosuch"'

    @property
    def variables(self) -> dict[str, str]:
        places = {"SGE_ROOT": str(self.folder), "SGE_CELL": "default"}
        ports = {"SGE_QMASTER_PORT": self.ports[0], "SGE_EXECD_PORT": self.ports[1]}
        return places | {name: str(port) for name, port in ports.items()}

    def states(self) -> list[tuple[str, str]]:
        rows = [line.split() for line in self.call("qstat").splitlines()[2:]]
        # "t" before it runs, "R" where it was pre-empted.
        states = ((row[0], row[4].lstrip("R").replace("t", "r")) for row in rows)
        return sorted(states, key=lambda job: int(job[0]))

    def cancel(self, *jobs: str) -> None:
        self.call("qdel", *jobs)

    def preempt(self, job: str) -> None:
        self.call("qmod", "-rj", job)

    def start(self) -> None:
        self._make_cell()
        self.call("sge_qmaster")
        wait_until(self._answers, 30, 0.2)
        self.call("qconf", "-as", _HOST)
        self._configure("Msconf", "ssconf", schedule_interval="0:0:1", flush_submit_sec="1")
        self.call("sge_execd")
        queue = {"hostlist": _HOST, "pe_list": "NONE", "load_thresholds": "NONE"}
        self._configure("Aq", "sq", qname="main", slots="2", rerun="TRUE", **queue)
        self._configure("Aq", "sq", qname="closed", initial_state="disabled", **queue)
        wait_until(lambda: "main@localhost" in self.call("qstat", "-f"), 30, 0.2)

    def _make_cell(self) -> None:
        """The folder as Debian's package makes it under ``/var``, with files for a database."""
        common, spool = self.folder / "default/common", self.folder / "qmaster"
        for folder in (common, spool, self.folder / "execd"):
            folder.mkdir(parents=True)
        (self.folder / "util").symlink_to(_DEFAULTS / "util")
        (common / "act_qmaster").write_text(f"{_HOST}\n")
        (common / "host_aliases").write_text(f"{_HOST} {socket.gethostname()}\n")
        where = f"{common};{spool}"
        text = _changed(
            (_DEFAULTS / "default-bootstrap").read_text(),
            admin_user="none",
            spooling_method="classic",
            spooling_lib="libspoolc",
            spooling_params=where,
            qmaster_spool_dir=str(spool),
        )
        (common / "bootstrap").write_text(text)
        self.call(f"{_PROGRAMS}/spoolinit", "classic", "libspoolc", where, "init")
        text = (_DEFAULTS / "default-configuration").read_text()
        ours = {"execd_spool_dir": f"{self.folder}/execd", "load_report_time": "00:00:01"}
        file = self.folder / "configuration"
        file.write_text(_changed(text, min_uid="0", min_gid="0", **ours))
        resources = _DEFAULTS / "util/resources"
        for name, value in {
            "configuration": file,
            "complexes": resources / "centry",
            "usersets": resources / "usersets",
            "managers": getpass.getuser(),
        }.items():
            self.call(f"{_PROGRAMS}/spooldefaults", name, str(value))

    def _answers(self) -> bool:
        try:
            return _HOST in self.call("qconf", "-sh")
        except AssertionError:
            return False

    def _configure(self, save: str, show: str, **changes: str) -> None:
        file = self.folder / save
        file.write_text(_changed(self.call("qconf", f"-{show}"), **changes))
        self.call("qconf", f"-{save}", str(file))


def _changed(text: str, **changes: str) -> str:
    """A configuration, a name and its value a line, with some values changed."""
    for name, value in changes.items():
        text = re.sub(rf"(?m)^{name}\s.*$", f"{name} {value}", text)
    return text
