import resource
import socket
import subprocess
import sys
from pathlib import Path

import dask
import pytest

from virnuc_dask.cluster import start_up
from virnuc_dask.cluster.connect import connect, refuse_impossible
from virnuc_dask.cluster.start_up import refuse_unstartable, starting
from virnuc_dask.config import ClusterSettings
from virnuc_dask.errors import BadSettingError, NoClusterError

IMPORT = "from virnuc_dask.cluster.start_up import refuse_unstartable\n"
CALL = "refuse_unstartable('127.0.0.1')\n"
REFUSED, FINE = 1, 0


def python(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess:
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (CALL, REFUSED),
        (f"def main():\n    {CALL}main()\n", REFUSED),
        (f"for _ in [1]:\n    {CALL}", REFUSED),
        (f"if __name__ == '__main__':\n    {CALL}", FINE),
        (f"def main():\n    {CALL}if __name__ == '__main__':\n    main()\n", FINE),
        (f"MAIN = __name__ == '__main__'\nif MAIN:\n    {CALL}", FINE),
    ],
)
def test_a_script_that_its_workers_would_run_again_is_told_what_to_write(tmp_path, lines, code):
    script = tmp_path / "script.py"
    script.write_text(IMPORT + lines)
    done = python(script)
    assert done.returncode == code, done.stderr
    if code:
        last = done.stderr.splitlines()[-1]
        assert f"{script}, line" in last
        assert 'under `if __name__ == "__main__":`' in last


def test_what_comes_from_no_file_is_no_script_and_standard_input_none_that_can_be_imported():
    assert python("-c", IMPORT + CALL).returncode == FINE
    piped = python("-", stdin=IMPORT + CALL)
    assert "save it as a file" in piped.stderr.splitlines()[-1]


def test_a_worker_that_comes_to_the_call_again_ends_without_a_word(monkeypatch):
    monkeypatch.setattr(start_up.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(SystemExit):
        refuse_unstartable("127.0.0.1")


def test_workers_that_die_as_they_start_are_one_line():
    died = RuntimeError("Nanny failed to start.")
    died.__cause__ = OSError("the last word")
    with pytest.raises(NoClusterError) as raised, starting():
        raise died
    assert str(raised.value).startswith("the workers did not start: the last word. Is memory")
    assert raised.value.__suppress_context__


# Dask leaves the socket open that could not be bound.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_port_taken_in_the_last_moment_is_no_news(monkeypatch):
    """It was free when it was looked at; another one is found, and nobody is warned."""
    monkeypatch.setattr("virnuc_dask.cluster.connect.free_port", lambda _, wanted: wanted)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = ClusterSettings(kind="cpu", workers=1, dashboard_port=port)
        with connect(settings, 0) as connection:
            assert f":{port}/" not in connection.dashboard


@pytest.mark.parametrize("name", [f"{Path(__file__)}/below_a_file", "/proc/nothing", 5])
def test_a_temporary_directory_that_cannot_be_written_is_a_setting_to_change(name):
    with (
        dask.config.set({"temporary-directory": name}),
        pytest.raises(BadSettingError, match=f"{name}: .*DASK_TEMPORARY_DIRECTORY"),
    ):
        refuse_impossible(ClusterSettings(kind="cpu"))


@pytest.mark.parametrize("kind", ["none", "cpu"])
def test_an_address_space_too_small_for_torch_is_told(monkeypatch, kind):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (800_000_000, -1))
    with pytest.raises(NoClusterError, match=r"0\.8 GB of address space here \(ulimit -v\)"):
        refuse_impossible(ClusterSettings(kind=kind))


def test_a_script_that_was_edited_while_it_runs_is_let_through(tmp_path):
    """The line that runs is another one in the file by now."""
    script = tmp_path / "script.py"
    script.write_text("", encoding="utf-8")
    assert start_up._was_edited(script)
    assert not start_up._was_edited(Path(start_up.__file__))
    assert not start_up._was_edited(tmp_path / "gone.py")
