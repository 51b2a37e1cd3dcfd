"""Real batch systems on this machine: each test that takes ``system`` runs with all of them."""

from collections.abc import Iterator

import pytest
from batch_system import BatchSystem
from faulty_runs import Job
from faulty_sets import faulty_modelset, make_job, undisturbed  # noqa: F401
from gridengine_system import GridEngine
from htcondor_system import HTCondor
from slurm_system import Slurm

SYSTEMS = {"slurm": Slurm, "gridengine": GridEngine, "htcondor": HTCondor}
_PARAMS = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in SYSTEMS]


@pytest.fixture(scope="session", params=_PARAMS)
def system(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchSystem]:
    kind = SYSTEMS[request.param]
    if reason := kind.why_not_here():
        pytest.skip(reason)
    system = kind(tmp_path_factory.mktemp(request.param))
    try:
        system.start()
        yield system
    finally:
        system.stop()


@pytest.fixture
def job(system, make_job, tmp_path) -> Iterator[Job]:  # noqa: F811
    """A run on two jobs, slowly: there is time to disturb it."""
    size = ("--job-cores", "1", "--job-memory", "4GB")
    started = make_job(tmp_path).but(
        faults={"delay_s": 0.3},
        cluster=("--cluster", system.cluster, "--jobs", "2", *size),
        environment=system.environ
        | {
            "HOME": str(tmp_path),
            "DASK_VIRNUC__CLUSTER__JOBS__INTERFACE": "lo",
            "DASK_VIRNUC__CLUSTER__JOBS__POLL_S": "1",
            "DASK_VIRNUC__CLUSTER__JOBS__DIRECTIVES": str(system.directives),
        },
    )
    yield started
    started.end()
    system.clear()
