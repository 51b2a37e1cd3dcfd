"""Large inputs are planned in bounded memory, as a bounded number of tasks."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLAN = """
import sys
from pathlib import Path
from virnuc_dask.cluster.hardware import Hardware
from virnuc_dask.config import Settings
from virnuc_dask.encoders.processor import this_processor
from virnuc_dask.modelsets.manifest import find, read_info
from virnuc_dask.planning import decided, make_plan
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.inputs import given_inputs

folder = RunFolder(Path(sys.argv[2]))
folder.prepare(resume=False, force=False)
info = read_info(find(sys.argv[3]))
hardware = Hardware("cpu", this_processor())
settings = decided(Settings(model=sys.argv[3], partition_chunks=1000), info, hardware)
plan = make_plan(given_inputs(sys.argv[1]).sources, folder, settings, info)
status = Path("/proc/self/status").read_text().splitlines()
peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(plan.counts.records, plan.counts.chunks, len(plan.partitions), peak)
"""


def planned(tmp_path: Path, pieces: Iterable[bytes], model: str) -> tuple[list[int], int]:
    """Records, chunks and partitions of an input; peak memory of planning it, in bytes."""
    with (tmp_path / "input").open("wb") as stream:
        stream.writelines(pieces)
    out = tmp_path / "out"
    out.mkdir()
    # Its own peak: what the system counts for a child holds the parent's memory at its start.
    command = [sys.executable, "-c", PLAN, tmp_path / "input", out, model]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    *counts, peak_kb = (int(word) for word in done.stdout.split())
    return counts, peak_kb * 1024


@pytest.fixture(scope="module")
def dna() -> bytes:
    letters = np.frombuffer(b"ACGT", np.uint8)
    return letters[np.random.default_rng(1).integers(0, 4, 1_000_000)].tobytes()


@pytest.fixture(params=["frames", "genes"])
def model(request, frames_modelset) -> str:
    """A set that reads frames of chunks, and one that reads genes of pieces."""
    return "mini" if request.param == "genes" else str(frames_modelset)


def test_a_million_reads_take_no_more_memory_than_ten_thousand(tmp_path, dna, model):
    def reads(count: int) -> Iterable[bytes]:
        for number in range(count):
            at = number * 7919 % (len(dna) - 150)
            yield b"@read%d\n%s\n+\n%s\n" % (number, dna[at : at + 150], b"I" * 150)

    for name in ("few", "many"):
        (tmp_path / name).mkdir()
    few, memory_few = planned(tmp_path / "few", reads(10_000), model)
    many, memory_many = planned(tmp_path / "many", reads(1_000_000), model)
    assert few == [10_000, 10_000, 10]
    assert many == [1_000_000, 1_000_000, 1_000], "a task a partition, not a read"
    assert memory_many < memory_few + 200_000_000


def test_a_record_of_200_million_letters_takes_a_few_bytes_a_letter(tmp_path, dna, model):
    lines = b"\n".join(dna[at : at + 60] for at in range(0, len(dna), 60)) + b"\n"
    counts, memory = planned(tmp_path, [b">chromosome\n", *[lines] * 200], model)
    assert counts == ([1, 1_111, 112] if model == "mini" else [1, 400_000, 400])
    assert memory < 1_500_000_000
