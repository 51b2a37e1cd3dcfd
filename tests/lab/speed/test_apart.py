import signal
import subprocess
import sys
import time

import psutil
import pytest

from virnuc_dask.errors import BadInputError, LostRowsError
from virnuc_dask.lab.speed.apart import in_own_process

WORK = """
import os
import time
from virnuc_dask.errors import BadInputError

def double(tell, number, *, by=2):
    tell("halfway")
    tell("done")
    return number * by, os.getpid()

def refuse(tell):
    raise BadInputError("x.fa: no such file.")

def stumble(tell):
    raise KeyError("a bug")

def sleep(tell):
    tell(str(os.getpid()))
    time.sleep(60)

def die(tell):
    os._exit(9)
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A module that a fresh process can import too."""
    (tmp_path / "work_apart.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    import work_apart

    return work_apart


def test_messages_and_the_result_come_back_from_another_process(work):
    import os

    told: list[str] = []
    result, pid = in_own_process(told.append, work.double, 21, by=3)
    assert result == 63
    assert pid != os.getpid()
    assert told == ["halfway", "done"]


def test_what_the_user_can_mend_is_raised_as_it_is(work):
    with pytest.raises(BadInputError, match=r"x\.fa"):
        in_own_process(print, work.refuse)


def test_a_bug_is_no_answer(work):
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        in_own_process(print, work.stumble)


def test_a_process_that_dies_is_told(work):
    with pytest.raises(LostRowsError, match="exit code 9"):
        in_own_process(print, work.die)


def test_a_process_ends_with_one_that_is_killed(work, tmp_path):
    program = (
        "from work_apart import sleep\n"
        "from virnuc_dask.lab.speed.apart import in_own_process\n"
        "if __name__ == '__main__': in_own_process(lambda pid: print(pid, flush=True), sleep)\n"
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
