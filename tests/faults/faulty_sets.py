"""Runs with a model set that has faults on demand: fixtures for tests of clusters."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from faulty_runs import SEED, Job, coding_records


@pytest.fixture(scope="session")
def faulty_modelset(frames_modelset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set that reads frames, its DNA encoder replaced by one that has faults on demand."""
    from virnuc_dask.modelsets.manifest import read_info, write_info

    folder = tmp_path_factory.mktemp("modelsets") / "faulty"
    folder.mkdir()
    for file in frames_modelset.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    info = read_info(frames_modelset)
    faulty = replace(info.nucleotide, architecture="faulty_dna_words")
    write_info(folder, replace(info, name="faulty", nucleotide=faulty))
    return folder


@pytest.fixture(scope="session")
def make_job(faulty_modelset: Path) -> Callable[..., Job]:
    """Makes a run of so many records, chunked into so many chunks a partition."""

    def make(
        folder: Path, *, records: int = 120, partition_chunks: int = 10, marked: Sequence[int] = ()
    ) -> Job:
        folder.mkdir(parents=True, exist_ok=True)
        fasta = folder / "input.fasta"
        fasta.write_text(coding_records(records, SEED, marked))
        preset = folder / "preset.yaml"
        preset.write_text(f"virnuc: {{partition_chunks: {partition_chunks}}}")
        options = ["--model", str(faulty_modelset), "--config", str(preset)]
        return Job(folder / "out", fasta, options)

    return make


@pytest.fixture(scope="session")
def undisturbed(make_job, tmp_path_factory) -> Job:
    """What every disturbed run of 120 records has to give too."""
    job = make_job(tmp_path_factory.mktemp("undisturbed")).but(cluster=("--cluster", "none"))
    done = job.run()
    assert done.returncode == 0, done.stderr
    return job
