import resource
import socket
import subprocess
import sys
from pathlib import Path

import dask
import pytest

from virnuc_dask.cluster.connect import connect, refuse_impossible
from virnuc_dask.cluster.start_up import starting
from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import BadSettingError, NoClusterError

UNGUARDED = """
from virnuc_dask.cluster.connect import connect, refuse_impossible
from virnuc_dask.config import ClusterSettings
settings = ClusterSettings(kind="cpu", workers=1, dashboard_port=0)
refuse_impossible(settings)
with connect(settings, 0):
    pass
"""


def test_a_script_that_its_workers_run_again_is_told_what_to_write(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert "the workers did not start: Nanny failed" in last
    assert 'call this without `if __name__ == "__main__":`' in last


def test_workers_that_die_as_they_start_are_one_line():
    died = RuntimeError("Nanny failed to start.")
    died.__cause__ = OSError("the last word")
    told = pytest.raises(NoClusterError, match=r"did not start: the last word\. .*ulimit")
    with told as raised, starting():
        raise died
    assert raised.value.__suppress_context__


# Dask leaves the socket open that could not be bound.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_where_a_port_is_taken_another_one_is_found_without_a_warning():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = ClusterSettings(kind="cpu", workers=1, dashboard_port=port)
        with connect(settings, 0) as connection:
            assert f":{port}/" not in connection.dashboard


@pytest.mark.parametrize("name", [f"{Path(__file__)}/below_a_file", 5])
def test_a_temporary_directory_that_cannot_be_written_is_a_setting_to_change(name):
    with (
        dask.config.set({"temporary-directory": name}),
        pytest.raises(BadSettingError, match=f"{name}: .*DASK_TEMPORARY_DIRECTORY"),
    ):
        refuse_impossible(ClusterSettings(kind="cpu"))


def test_an_address_space_too_small_for_torch_is_told(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (800_000_000, -1))
    with pytest.raises(NoClusterError, match=r"0\.8 GB of address space here \(ulimit -v\)"):
        refuse_impossible(ClusterSettings(kind="none"))
