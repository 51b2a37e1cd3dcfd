"""Real runs in real processes, and real harm."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_runs import Job
from faulty_sets import faulty_modelset, make_job, undisturbed  # noqa: F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def job(make_job, tmp_path) -> Iterator[Job]:  # noqa: F811
    """The same on two workers, slowly until told to hurry: there is time to disturb it."""
    slowly = tmp_path / "slowly"
    slowly.touch()
    job = make_job(tmp_path).but(faults={"delay_s": 0.3, "delay_while": str(slowly)})
    yield job
    job.end()
