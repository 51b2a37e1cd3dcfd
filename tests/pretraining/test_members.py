"""Processes of members; what they learn is tested in test_learning.py."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

ENDLESS = """
import random, signal, sys
from pathlib import Path
from virnuc_dask.pretraining.genes import Gene
from virnuc_dask.pretraining.members import train_members
from virnuc_dask.pretraining.recipe import NgramRecipe

def gene(kind, number, rng):
    dna = "".join(rng.choices(["GCC", "AAA", "CTG", "GAA"], k=300))
    return Gene(f"{kind}{number}", dna, kind, f"{kind}{number}")

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng = random.Random(0)
    genes = [gene(kind, n, rng) for kind in ("virus", "other") for n in range(20)]
    recipe = NgramRecipe(members=2, width=4, hidden=4, steps=1_000_000, batch=16)
    train_members({"train": genes, "validation": genes}, (300,), recipe, 1, Path(sys.argv[1]), 2)
"""


def busy(processes):
    """Members at work: started, and past their imports."""
    return [p for p in processes if p.is_running() and p.cpu_times().user > 0.5]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_no_member_outlives_an_interruption(tmp_path, sent):
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    with subprocess.Popen([sys.executable, script, tmp_path], stderr=subprocess.DEVNULL) as process:
        parent, deadline = psutil.Process(process.pid), time.monotonic() + 60
        while len(members := busy(parent.children())) < 2:
            assert time.monotonic() < deadline, "the members do not start"
            time.sleep(0.1)
        process.send_signal(sent)
        process.wait(30)
    assert process.returncode != 0
    _, alive = psutil.wait_procs(members, timeout=10)
    assert alive == []
