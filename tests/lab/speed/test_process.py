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
from virnuc_dask.lab.speed.process import in_own_process

def double(number, *, by=2):
    return number * by, os.getpid()

def refuse():
    raise BadInputError("x.fa: no such file.")

def sleep():
    print(os.getpid(), flush=True)
    time.sleep(60)

def die():
    os._exit(9)

if __name__ == "__main__":
    in_own_process(sleep)
"""


def test_results_and_errors_come_back_from_a_process_that_ends_with_this_one(tmp_path, monkeypatch):
    (tmp_path / "work_apart.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    import work_apart

    result, pid = in_own_process(work_apart.double, 21, by=3)
    assert result == 63
    assert pid != os.getpid()
    with pytest.raises(BadInputError, match=r"x\.fa"):
        in_own_process(work_apart.refuse)
    with pytest.raises(LostRowsError, match="out of memory"):
        in_own_process(work_apart.die)
    command = [sys.executable, tmp_path / "work_apart.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        child = psutil.Process(int(caller.stdout.readline()))
        caller.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)
