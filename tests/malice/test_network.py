"""Who can reach what we start, and how we connect to what is protected."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest
from distributed import Client, LocalCluster, Security

from virnuc_dask.cluster.connect import connect
from virnuc_dask.cluster.start_up import note_on_access
from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import NoClusterError

DNA = "ATGGCTGAACGTCTGAAAGCTGCTGGTGCTGAACGT" * 20


# What we start


def listening() -> dict[int, set[str]]:
    """Addresses on which this process and its children listen, by process."""
    here = psutil.Process()
    return {
        process.pid: {
            found.laddr.ip
            for found in process.net_connections("inet")
            if found.status == psutil.CONN_LISTEN
        }
        for process in (here, *here.children(recursive=True))
    }


@pytest.mark.parametrize("dashboard_port", [0, 18_787])
def test_scheduler_dashboard_nannies_and_workers_listen_on_loopback_only(dashboard_port):
    settings = ClusterSettings(kind="cpu", workers=2, dashboard_port=dashboard_port)
    with connect(settings, weight_bytes=0) as connection:
        assert connection.client is not None
        found = listening()
        workers = set(connection.client.run(lambda: psutil.Process().pid).values())
        assert all(found[pid] for pid in workers), "workers listen too"
        assert len(set().union(*found.values())) > 0
        assert all(ip_address(ip).is_loopback for ips in found.values() for ip in ips), found


def test_a_cluster_told_to_listen_everywhere_does_and_warns():
    settings = ClusterSettings(kind="cpu", workers=1, dashboard_port=0, host="0.0.0.0")
    with connect(settings, weight_bytes=0) as connection:
        everywhere = {ip for ips in listening().values() for ip in ips}
    assert "0.0.0.0" in everywhere
    assert "whoever reaches it can run code on its workers" in connection.note


def test_an_open_cluster_is_named():
    for address in ("tcp://10.0.0.1:8786", "tcp://[2001:db8::1]:8786", "tcp://node7:8786"):
        assert f"{address} asks for no certificate" in note_on_access(address)
    for address in ("tcp://127.0.0.1:8786", "tcp://[::1]:1", "tls://10.0.0.1:8786", "inproc://x"):
        assert note_on_access(address) == ""


# What is protected


def make_certificates(folder: Path) -> dict[str, str]:
    """One certificate, signed by itself; as the settings name its files."""
    folder.mkdir()
    made = Security.temporary()
    (folder / "own.pem").write_text(made.tls_ca_file)
    (folder / "own.key").write_text(made.tls_client_key)
    own = str(folder / "own.pem")
    return {"tls_ca_file": own, "tls_cert": own, "tls_key": str(folder / "own.key")}


def options(certificates: dict[str, str]) -> list[str]:
    pairs = certificates.items()
    return [part for name, file in pairs for part in (f"--{name.replace('_', '-')}", file)]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_certificates(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def protected(
    certificates: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """The scheduler file of a cluster, one worker, that asks for certificates."""
    file = tmp_path_factory.mktemp("cluster") / "scheduler.json"
    ours = {what: certificates[f"tls_{what}"] for what in ("cert", "key")}
    roles = ("scheduler", "worker", "client")
    security = Security(
        require_encryption=True,
        tls_ca_file=certificates["tls_ca_file"],
        **{f"tls_{who}_{what}": path for who in roles for what, path in ours.items()},
    )
    place = {"protocol": "tls", "security": security, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=1, processes=False, **place) as cluster:
        file.write_text(json.dumps({"address": cluster.scheduler_address}))
        yield file


@pytest.fixture
def run_on(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., object]:
    # The protected cluster lives in this process, and tells of those it refuses.
    monkeypatch.setattr(logging, "raiseExceptions", False)
    (tmp_path / "in.fa").write_text(f">one\n{DNA}\n")

    def call(*options: object) -> tuple[int, str]:
        code, out, err = command("run", tmp_path / "in.fa", "-o", tmp_path / "out", *options)
        assert "Traceback" not in err
        return code, out + err

    return call


def test_an_address_of_another_machine_is_refused_before_anything_is_written(run_on, tmp_path):
    (tmp_path / "away.yaml").write_text("virnuc: {cluster: {host: 203.0.113.1}}\n")
    code, said = run_on("--cluster", "cpu", "--config", tmp_path / "away.yaml")
    assert code == 6
    assert "cluster.host: 203.0.113.1 is no address of this machine" in said
    assert not (tmp_path / "out").exists()


def test_a_run_on_a_protected_cluster(run_on, protected, certificates):
    code, said = run_on("--scheduler-file", protected, *options(certificates))
    assert code == 0, said
    assert "asks for no certificate" not in said
    address = json.loads(protected.read_text())["address"]
    code, said = run_on("--scheduler", address, *options(certificates), "--force")
    assert code == 0, said
    assert address.startswith("tls://")


def test_without_certificates_or_with_those_of_others_a_protected_cluster_does_not_answer(
    run_on, protected, tmp_path
):
    for others in ([], options(make_certificates(tmp_path / "others"))):
        code, said = run_on("--scheduler-file", protected, *others)
        assert code == 6
        assert "no scheduler answers" in said
        assert "the three --tls options those of its cluster?" in said


def test_with_certificates_an_open_cluster_is_refused(certificates):
    # The same that a stranger who listens on the cluster's port would be.
    with connect(ClusterSettings(kind="cpu", workers=1, dashboard_port=0), 0) as open_cluster:
        assert isinstance(open_cluster.client, Client)
        settings = ClusterSettings(scheduler=open_cluster.client.scheduler.address, **certificates)
        with pytest.raises(NoClusterError, match="no scheduler answers"), connect(settings, 0):
            pass


@pytest.mark.parametrize(
    ("changed", "scheduler", "code", "told"),
    [
        *(
            ({name: None}, True, 2, f"virnuc.cluster needs {name} as well, for TLS")
            for name in ("tls_ca_file", "tls_cert", "tls_key")
        ),
        ({"tls_key": "no.key"}, True, 6, "no.key: no such file"),
        ({}, False, 6, "name it with --scheduler"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    run_on, certificates, tmp_path, changed, scheduler, code, told
):
    given = {name: file for name, file in (certificates | changed).items() if file is not None}
    where = ("--scheduler", "tls://127.0.0.1:1") if scheduler else ()
    found, said = run_on(*where, *options(given))
    assert found == code
    assert told in said
    assert not (tmp_path / "out").exists()


# Without a network

# Loaded by every Python that is started, the workers' too.
NO_NETWORK = """
import errno, ipaddress, os, socket, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        family, address = arguments[0].family, arguments[1]
        if family not in (socket.AF_INET, socket.AF_INET6):
            return
        host = address[0]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if host in (None, "", "localhost", socket.gethostname()):
        return
    try:
        if ipaddress.ip_address(host).is_loopback:
            return
    except ValueError:
        pass
    with open(os.environ["NO_NETWORK_LOG"], "a") as log:
        log.write(f"{event} {host}\\n")
    raise OSError(errno.ENETUNREACH, "no network here")

sys.addaudithook(refuse)
"""


# A process that is all of these commands.
ONE_AFTER_THE_OTHER = """
import json, sys
from virnuc_dask.cli import main

well = 0
for sys.argv in json.load(sys.stdin):
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    well += 1
print("ended well:", well, file=sys.stderr)
"""


def test_everything_but_fetching_works_without_a_network(tmp_path, parity_dir):
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    (tmp_path / "in.fa").write_text(f">one\n{DNA}\n>two\n{DNA[::-1]}\n")
    attempts = tmp_path / "attempts"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        "NO_NETWORK_LOG": str(attempts),
        "VIRNUC_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
    }

    reach = "import socket; socket.create_connection(('192.0.2.1', 80))"
    refused = subprocess.run(
        [sys.executable, "-c", reach], env=environment, capture_output=True, check=False
    )
    assert refused.returncode != 0
    assert attempts.read_text().splitlines()[-1].endswith(" 192.0.2.1"), "the block blocks"
    attempts.unlink()
    checkpoints = {
        "--dnabert-s": "dnabert_s_tiny",
        "--esm2": "esm2_tiny.pt",
        "--classifier": "classifier.pth",
    }
    options = [part for option, file in checkpoints.items() for part in (option, parity_dir / file)]
    commands = (
        ("models", "list"),
        ("models", "verify", "mini"),
        ("models", "import", "--name", "tiny", "--out", "tiny", "--length", 500, *options),
        ("models", "export", "tiny", "tiny.tar"),
        ("models", "add", "tiny.tar"),
        ("models", "diff", "tiny", "mini"),
        ("models", "fetch", "virnucpro-500", "--plan"),
        ("run", "in.fa", "-o", "out", "--model", "tiny", "--cluster", "cpu", "--workers", 1),
        ("predict", "out", "--cluster", "none"),
    )
    done = subprocess.run(
        [sys.executable, "-c", ONE_AFTER_THE_OTHER],
        input=json.dumps([["virnuc-dask", *map(str, command)] for command in commands]),
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[-1] == f"ended well: {len(commands)}"
    # Dask asks the system which of its addresses would be used; nothing is sent.
    found = set(attempts.read_text().splitlines()) if attempts.exists() else set()
    assert found <= {"socket.connect 8.8.8.8", "socket.connect 2001:4860:4860::8888"}
