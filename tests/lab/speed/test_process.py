import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from virnuc_dask.errors import BadInputError, LostRowsError
from virnuc_dask.lab.speed.process import in_own_process

WORK = """
import os
import time
from virnuc_dask.errors import BadInputError

def double(number, *, by=2):
    return number * by, os.getpid()

def refuse():
    raise BadInputError("x.fa: no such file.")

def sleep():
    print(os.getpid(), flush=True)
    time.sleep(60)

def die():
    os._exit(9)
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A module that a fresh process can import too."""
    (tmp_path / "work_apart.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    import work_apart

    return work_apart


def test_results_and_errors_come_back_from_another_process(work):
    result, pid = in_own_process(work.double, 21, by=3)
    assert result == 63
    assert pid != os.getpid()
    with pytest.raises(BadInputError, match=r"x\.fa"):
        in_own_process(work.refuse)


def test_a_process_that_dies_is_told(work):
    with pytest.raises(LostRowsError, match="out of memory"):
        in_own_process(work.die)


def test_a_process_ends_with_one_that_is_killed(work, tmp_path):
    program = (
        "from work_apart import sleep\n"
        "from virnuc_dask.lab.speed.process import in_own_process\n"
        "if __name__ == '__main__': in_own_process(sleep)\n"
    )
    (tmp_path / "caller.py").write_text(program)
    with subprocess.Popen(
        [sys.executable, tmp_path / "caller.py"], stdout=subprocess.PIPE, text=True
    ) as caller:
        child = psutil.Process(int(caller.stdout.readline()))
        caller.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)
