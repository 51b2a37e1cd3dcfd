"""Job scripts, against what dask-jobqueue documents, and the workers in jobs.

tests/batch/ has the same on real batch systems.
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import dask.config
import pytest
from distributed import Client, LocalCluster, Nanny, Worker, get_worker

from virnuc_dask.cluster import batch_systems
from virnuc_dask.cluster.connect import FOR_WORKERS, device_of
from virnuc_dask.cluster.job_scripts import (
    job_script,
    refuse_unsubmittable,
    walltime_s,
    with_workers,
)
from virnuc_dask.cluster.job_worker import JobWorker
from virnuc_dask.config import BATCH_SYSTEMS, ClusterSettings, JobSettings
from virnuc_dask.errors import BadSettingError, NoClusterError, UsageError
from virnuc_dask.modelsets.environment import VARIABLES
from virnuc_dask.stages.crash_marks import CrashMarks, forgive_death


@pytest.fixture(autouse=True)
def jobqueue():
    """dask-jobqueue's own defaults, whatever this machine's user has."""
    dask_jobqueue = pytest.importorskip("dask_jobqueue")
    defaults = dask.config.collect_yaml([Path(dask_jobqueue.__file__).with_name("jobqueue.yaml")])
    with dask.config.set({"jobqueue": dask.config.merge(*defaults)["jobqueue"]}):
        yield


def settings(kind: str, **jobs: object) -> ClusterSettings:
    return ClusterSettings(kind=kind, jobs=JobSettings(**jobs))


def script(kind: str, tmp_path: Path, **jobs: object) -> list[str]:
    return job_script(settings(kind, **jobs), tmp_path / "jobs").splitlines()


# What each system's documentation calls a job of 8 cores, 24 GB and two hours; then two GPUs.
DIRECTIVES = {
    "slurm": "-p gpu;-A lab;-n 1;--cpus-per-task=8;--mem=23G;-t 02:00:00;--gres=gpu:2",
    "pbs": "-q gpu;-A lab;-l walltime=02:00:00;-l select=1:ncpus=8:ngpus=2:mem=22889MB",
    "moab": "-q gpu;-A lab;-l walltime=02:00:00;-l nodes=1:ppn=8:gpus=2",
    "sge": "-q gpu;-P lab;-l h_rt=02:00:00;-l gpu=2",
    "lsf": '-q gpu;-P "lab";-n 8;-R "span[hosts=1]";-M 24000000;-W 02:00;-gpu "num=2"',
    "oar": "-q gpu;--project lab;-l /nodes=1/gpu=2,walltime=02:00:00",
}
WITHOUT_GPU = {
    "pbs": "-l select=1:ncpus=8:mem=23GB",
    "moab": "-l select=1:ncpus=8:mem=23GB",
    "oar": "-l /nodes=1/core=8,walltime=02:00:00",
}
MARKS = {"slurm": "SBATCH", "pbs": "PBS", "moab": "PBS", "sge": "$", "lsf": "BSUB", "oar": "OAR"}


@pytest.mark.parametrize("kind", DIRECTIVES)
def test_a_job_asks_for_what_the_flags_say(kind, tmp_path):
    size = {"cores": 8, "memory": "24GB", "queue": "gpu", "account": "lab"}
    size["walltime"] = "02:00" if kind == "lsf" else "02:00:00"
    lines = script(kind, tmp_path, gpus=2, directives=("-x y",), **size)
    mark = f"#{MARKS[kind]} "
    found = [line.removeprefix(mark) for line in lines if line.startswith(mark)]
    assert [each for each in (*DIRECTIVES[kind].split(";"), "-x y") if each not in found] == []
    assert f"{tmp_path}/jobs" in "\n".join(found)
    if kind in WITHOUT_GPU:
        assert mark + WITHOUT_GPU[kind] in script(kind, tmp_path, **size)


def test_a_job_of_htcondor_asks_for_what_the_flags_say(tmp_path):
    lines = script("htcondor", tmp_path, cores=8, gpus=2, directives=("accounting_group = lab",))
    assert {"MY.DaskWorkerCores = 8", "request_gpus = 2", "accounting_group = lab"} <= {*lines}
    assert f"; exec {sys.executable} -m " in "\n".join(lines)
    with pytest.raises(BadSettingError, match="HTCondor has no queue"):
        script("htcondor", tmp_path, queue="gpu")


@pytest.mark.parametrize("kind", BATCH_SYSTEMS)
def test_a_job_is_one_worker_with_what_our_own_workers_have(kind, tmp_path):
    text = "\n".join(script(kind, tmp_path, cores=8, gpus=1))
    assert "distributed.cli.dask_worker tls://" in text
    assert "--nworkers" not in text
    assert "--nthreads 8 " in text  # dask-jobqueue's own, and ours behind it, which counts
    assert text.index("--nthreads 3") > text.index("--nthreads 8")
    assert "export MALLOC_ARENA_MAX=1" in text
    assert FOR_WORKERS["distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX"] == "1"
    assert all(f"export {name}={value}" in text for name, value in VARIABLES.items())
    assert with_workers(settings(kind, cores=8, gpus=1)).threads == 8


def test_several_gpus_of_a_job_have_a_worker_each(tmp_path):
    text = "\n".join(script("slurm", tmp_path, cores=8, gpus=4, walltime="1-00:00:00"))
    assert "-m dask_cuda.cli tls://" in text
    assert "--memory-limit 3.73GiB" in text
    assert "export DASK_DISTRIBUTED__WORKER__LIFETIME__DURATION=85800s" in text
    assert with_workers(settings("slurm", cores=8, gpus=4)).threads == 2
    assert device_of(settings("slurm", gpus=4)) == "cuda"
    assert device_of(settings("slurm")) == "cpu"


@pytest.mark.parametrize("name", ["dask_cuda.cli", "distributed.cli.dask_worker"])
def test_the_workers_commands_know_the_options(name, tmp_path):
    gpus = 2 if "cuda" in name else 1
    (line,) = (each for each in script("slurm", tmp_path, gpus=gpus) if f"-m {name}" in each)
    pytest.importorskip(name.partition(".")[0])
    command = [sys.executable, "-m", name, "--help"]
    known = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    options = {word for word in line.split() if word.startswith("--")}
    assert [option for option in options if option not in known] == []


def test_a_section_by_name_adds_to_that_of_its_system(tmp_path):
    sections = {
        "jobqueue.slurm.account": "lab",
        "jobqueue.gpu": {
            "cores": 16,
            "memory": "64GB",
            "queue": "a100",
            "job-extra-directives": ["--gres=gpu:a100:1"],
            "job-script-prologue": ["module load cuda"],
            "worker-extra-args": ["--no-dashboard"],
        },
    }
    with dask.config.set(sections):
        lines = script("slurm:gpu", tmp_path, gpus=1, queue="short", setup=("source env",))
    text = "\n".join(lines)
    assert [line for line in lines if "gres" in line] == ["#SBATCH --gres=gpu:a100:1"]
    assert {"#SBATCH -p short", "#SBATCH -A lab", "#SBATCH --cpus-per-task=16"} <= set(lines)
    assert text.index("module load cuda") < text.index("source env") < text.index("-m distributed")
    assert "--no-dashboard" in text
    with pytest.raises(BadSettingError, match=r"no section jobqueue\.gpus"):
        script("slurm:gpus", tmp_path)


@pytest.mark.parametrize(
    ("system", "text", "seconds"),
    [
        ("slurm", "30", 1800),
        ("slurm", "10:30", 630),
        ("slurm", "1-12", 129_600),
        ("slurm", "1-12:30", 131_400),
        ("slurm", "1-00:00:10", 86_410),
        ("pbs", "3600", 3600),
        ("lsf", "90", 5400),
        ("lsf", "01:30", 5400),
        ("oar", "2", 7200),
        *(("sge", text, None) for text in ("soon", "1:2:3:4", "2 h", "")),
    ],
)
def test_walltimes_are_read_as_their_system_does(system, text, seconds):
    refused = pytest.raises(BadSettingError, match="hours:minutes:seconds")
    with refused if seconds is None else nullcontext():
        assert walltime_s(text, system) == seconds


@pytest.mark.parametrize(
    ("walltime", "least", "most"), [("1", 10, 50), ("1-00:00:00", 85200, 86300)]
)
def test_workers_leave_before_their_job_ends(tmp_path, walltime, least, most):
    words = script("slurm", tmp_path, walltime=walltime)[-1].split()
    middle, spread = (
        int(words[words.index(name) + 1].removesuffix("s"))
        for name in ("--lifetime", "--lifetime-stagger")
    )
    assert least < middle - spread < middle + spread < most


def test_a_dry_run_prints_the_script_and_writes_nothing(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.fasta").write_text(">a\n" + "ACGT" * 200 + "\n")
    options = "--cluster slurm --job-setup true --job-setup false --walltime 20 --dry-run"
    code, out, err = command("run", "a.fasta", "-o", "out", *options.split())
    assert code == 0, err
    assert "#SBATCH -t 20\n" in out
    assert "\ntrue\nfalse\nexport" in out
    assert f"#SBATCH -o {tmp_path}/out/jobs/virnuc-%J.out" in out
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_submitted_is_told_before_anything_is_done(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(NoClusterError, match="no command bsub"):
        refuse_unsubmittable(settings("lsf"))
    with pytest.raises(BadSettingError, match="--jobs"):
        refuse_unsubmittable(replace(settings("lsf"), workers=2))
    with pytest.raises(UsageError, match="no path with spaces"):
        script("slurm", tmp_path / "my results")
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(NoClusterError, match=r"install virnuc-dask\[jobqueue\]"):
        refuse_unsubmittable(settings("slurm"))


def test_interrupts_stay_ours_when_dask_jobqueue_is_imported():
    code = (
        "import signal; from pathlib import Path; before = signal.getsignal(signal.SIGINT)\n"
        "from virnuc_dask.config import ClusterSettings as C\n"
        "from virnuc_dask.cluster.job_scripts import job_script\n"
        "job_script(C(kind='slurm'), Path('x')); assert signal.getsignal(signal.SIGINT) is before"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SQUEUE = "7 PENDING,Resources\n8 RUNNING,None\n"
QSTAT = "Job id Name User Time Use S Queue\n7.head virnuc me 0 Q main\n8.head v me 0 C main\n"


@pytest.mark.parametrize(
    ("system", "answer", "expected"),
    [
        ("slurm", SQUEUE, {"7": "PENDING, Resources", "8": "RUNNING"}),
        ("pbs", QSTAT, {"7": "Q", "8": None}),
        ("sge", "7 0.5 virnuc me qw 01/01/2026 10:00:00 4\n", {"7": "qw"}),
        ("lsf", "7 PEND\n", {"7": "PEND"}),
        ("htcondor", "7.0 idle\n8.0 removed\n", {"7.0": "idle", "8.0": None}),
    ],
)
def test_states_of_jobs_are_read(system, answer, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(batch_systems, "_run", lambda *_: answer)
    states = batch_systems._Keeper(None, settings(system), tmp_path, print)._states()
    assert {number: states.get(number) for number in expected} == expected


def test_what_a_command_says_is_told_whole():
    answer = "stdout:\n\nstderr:\nUnable to run job: no such queue.\nExiting.\n\n"
    match = r"submitted: Unable to run job: no such queue\. Exiting\.$"
    with pytest.raises(NoClusterError, match=match), batch_systems._submitting():
        raise RuntimeError(answer)


def test_the_last_words_are_the_jobs_own(tmp_path):
    (tmp_path / "worker-1.0.err").write_text("no such module\n")
    (tmp_path / "worker-1.log").write_text("Job terminated\n")
    os.utime(tmp_path / "worker-1.0.err", (0, 0))
    keeper = batch_systems._Keeper(None, settings("htcondor"), tmp_path, print)
    assert "no such module" in keeper._last_words()


def compute(seconds: float) -> str:
    time.sleep(seconds)
    return str(get_worker().address)


async def end(dask_worker: Worker) -> None:
    dask_worker.loop.add_callback(dask_worker.close_gracefully, reason="lifetime")


class JobNanny(Nanny):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, worker_class=JobWorker, **kwargs)


def test_a_worker_ends_between_partitions():
    place = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(n_workers=2, worker_class=JobNanny, **place) as cluster,
        Client(cluster) as client,
    ):
        first, second = client.scheduler_info()["workers"]
        inside = client.submit(compute, 1.5, workers=[first])
        time.sleep(0.5)
        how = {"workers": [first], "allow_other_workers": True, "pure": False}
        later = [client.submit(compute, 0, **how) for _ in range(3)]
        client.run(end, workers=[first], wait=False)
        assert inside.result() == first, "computed to its end"
        assert set(client.gather(later)) == {second}


def test_a_job_that_is_ended_blames_nothing(tmp_path):
    marks = CrashMarks(tmp_path, "part-00000")
    with marks.attempt():
        assert marks.deaths() == 1
        forgive_death()
        assert marks.deaths() == 0


def attempt(folder: Path, seconds: float) -> None:
    with CrashMarks(folder, "part-00000").attempt():
        time.sleep(seconds)


def test_a_worker_whose_nanny_alone_is_told_of_the_end_blames_nothing(tmp_path):
    place = {"processes": False, "worker_class": JobWorker, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=1, **place) as cluster, Client(cluster) as client:
        task = client.submit(attempt, tmp_path, 3)
        while not any(tmp_path.glob("*.attempt")):
            time.sleep(0.02)
        (worker,) = cluster.workers.values()
        cluster.sync(worker.close, executor_wait=False, reason="signal-15")
        assert not any(tmp_path.glob("*.attempt"))
        task.release()
