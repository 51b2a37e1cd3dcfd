"""What the facts mean: pure functions from what was found to findings, each with a next step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from virnuc_dask.cluster.connect import worker_bytes
from virnuc_dask.cluster.machine import Machine
from virnuc_dask.encoders.processor import PLAIN

# Works; works, but with less than there could be; does not do what was asked for.
GREEN, YELLOW, RED = LEVELS = ("green", "yellow", "red")
HERE, SCHEDULER = "this machine", "the scheduler"
_FEWEST_FILES, _ENOUGH_FILES = 256, 1024
_LEAST_DISK, _ENOUGH_DISK = 100_000_000, 5_000_000_000  # bytes
_SLOW_DISK = 20e6  # bytes a second: what two GPUs write
_SKEW_S = 2.0
_MUST_AGREE = ("python", "dask", "distributed", "torch", "numpy", "pyarrow")
_OR_CPU = ", or compute on the CPU on purpose (--cluster cpu)."


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``next_step`` is for what is not green."""

    level: str
    topic: str
    where: str
    text: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Need:
    """What was asked for, and what the model set's encoders take."""

    device: str  # auto, cpu, cuda
    modelset: str
    encoder_bytes: tuple[int, ...]  # of each, in the precision that the machine computes in
    by_dask_cuda: bool = False  # whether GPUs get their workers here, from this program


@dataclass(frozen=True, slots=True)
class Disk:
    """A file system, as seen through a folder."""

    folder: str
    kind: str
    free_bytes: int
    write_bytes_s: float | None = None


Rule = tuple[object, str, str]
"""If the first is true: the level, and the next step."""


def graded(topic: str, where: str, text: str, *rules: Rule) -> Finding:
    """A finding by the first rule that applies; green if none does."""
    for applies, level, next_step in rules:
        if applies:
            return Finding(level, topic, where, text, next_step)
    return Finding(GREEN, topic, where, text)


def worst(findings: Iterable[Finding]) -> str:
    """The level that counts."""
    return max((each.level for each in findings), key=LEVELS.index, default=GREEN)


def check_machine(machine: Machine, need: Need, where: str, workers: int = 1) -> Iterator[Finding]:
    """Whether a machine can compute for so many workers: processor, GPUs, memory, open files."""
    yield _check_processor(machine, where)
    yield from check_gpus(machine, need, where)
    yield _check_memory(machine, need, where, workers)
    yield check_open_files(machine, where)


def _check_processor(machine: Machine, where: str) -> Finding:
    can = machine.processor
    bf16 = "multiplies bf16" if can.multiplies_bf16 else "no bf16"
    text = f"{machine.cpu}, {machine.cores} cores, {can.instructions}, {bf16}"
    step = "Encoders are slow without AVX2; `mini` is not."
    return graded("processor", where, text, (can.instructions == PLAIN, YELLOW, step))


def check_gpus(machine: Machine, need: Need, where: str) -> Iterator[Finding]:
    """Whether driver, torch and dask-cuda go together, and whether the encoders fit."""
    if not machine.gpus:
        step = "Leave out --cluster cuda and --device cuda, or use a machine with a GPU."
        yield graded("GPUs", where, f"none: {machine.no_gpu}", (need.device == "cuda", RED, step))
        return
    names = f"{len(machine.gpus)} x {machine.gpus[0].name}"
    if need.device == "cpu":
        yield Finding(GREEN, "GPUs", where, f"{names}, not to be used")
        return
    torch = f"torch for CUDA {machine.torch_cuda}" if machine.torch_cuda else "torch for CPUs"
    text = f"{names}, driver {machine.driver} for CUDA {machine.driver_cuda}, {torch}"
    yield graded("GPUs", where, text, *_together(machine, need))
    free = min(gpu.free_bytes for gpu in machine.gpus)
    total = min(gpu.total_bytes for gpu in machine.gpus)
    weights, largest = sum(need.encoder_bytes), max(need.encoder_bytes)
    text = f"{_gb(free)} of {_gb(total)} free, encoders take {_gb(weights)}"
    small = f"{need.modelset} does not fit: end what else is there; or another GPU, another set."
    turns = "The encoders take turns, which costs time. Who else is there?"
    rules = (largest > free, RED, small), (weights > free, YELLOW, turns)
    yield graded("GPU memory", where, text, *rules)


def _together(machine: Machine, need: Need) -> Iterator[Rule]:
    """Rules for driver, torch and dask-cuda."""
    yield not machine.torch_cuda, RED, f"This torch is for CPUs: install CUDA's{_OR_CPU}"
    known, built = _numbers(machine.driver_cuda), _numbers(machine.torch_cuda)
    newer = f"torch's CUDA {machine.torch_cuda} is newer than the driver, which knows "
    newer += f"{machine.driver_cuda}: "
    mend = f"install a newer driver, or torch for CUDA {known[0]}{_OR_CPU}"
    yield built[0] > known[0], RED, newer + mend
    lacks = need.by_dask_cuda and not machine.versions.get("dask-cuda")
    extra = f"virnuc-dask[gpu-cu{built[0]}]"
    yield lacks, RED, f"dask-cuda is missing: install {extra}{_OR_CPU}"
    yield built > known, YELLOW, f"{newer}a newer driver would be safer."


def _check_memory(machine: Machine, need: Need, where: str, workers: int) -> Finding:
    limit, free = machine.memory_bytes, machine.free_bytes
    one = worker_bytes(sum(need.encoder_bytes))
    text = f"{_gb(limit)} may be used, {_gb(free)} free; a worker takes {_gb(one)}"
    small = f"Too little for {need.modelset}: ask for more, or take another set."
    fewer = f"{limit // one} workers fit, for {workers} cores: more memory, more of them compute."
    rules: tuple[Rule, ...] = (
        (one > limit, RED, small),
        (one > free, YELLOW, "Others use it now: end them, or wait."),
        (limit // one < workers and not machine.gpus, YELLOW, fewer),
    )
    return graded("memory", where, text, *rules)


def check_open_files(machine: Machine, where: str) -> Finding:
    """Whether a process may have enough connections and files open."""
    limit, step = machine.open_files, "Raise it before a run and on its workers: ulimit -n 65536."
    rules = (limit < _FEWEST_FILES, RED, step), (limit < _ENOUGH_FILES, YELLOW, step)
    return graded("open files", where, f"at most {limit:,} a process", *rules)


def check_disk(disk: Disk, topic: str) -> Finding:
    """Whether a folder's file system has room, and takes data as fast as a run makes them."""
    free, speed = disk.free_bytes, disk.write_bytes_s
    writes = "" if speed is None else f", writes {speed / 1e6:,.0f} MB/s"
    text = f"{disk.folder}: {disk.kind}, {_gb(free)} free{writes}"
    features = "Features of large encoders take 13 GB a million frames; --no-features keeps none."
    slow = "It is slow: choose a local or a parallel file system, or --no-features."
    rules: tuple[Rule, ...] = (
        (free < _LEAST_DISK, RED, "It is full: make room, or choose another disk."),
        (free < _ENOUGH_DISK, YELLOW, features),
        (speed is not None and speed < _SLOW_DISK, YELLOW, slow),
    )
    return graded(topic, HERE, text, *rules)


def check_version(found: object, here: str, where: str) -> Finding:
    """Whether a process of the cluster has this program, in this version."""
    has = found if isinstance(found, str) else f"none ({found})"
    step = f"Install virnuc_dask {here} everywhere."
    return graded("virnuc_dask", where, has, (found != here, RED, f"Here it is {here}. {step}"))


def check_packages(machine: Machine, here: Machine, where: str) -> Finding:
    """Whether a worker computes with what the client has."""
    pairs = ((name, machine.versions.get(name), here.versions.get(name)) for name in _MUST_AGREE)
    others = "; ".join(f"{name} {found}, here {own}" for name, found, own in pairs if found != own)
    step = "Install the same (constraints.txt): messages may not be understood, last bits differ."
    return graded("packages", where, others or "as here", (others, YELLOW, step))


def check_clock(skew_s: float, where: str) -> Finding:
    """Whether a worker's clock goes as the client's does."""
    text = f"{skew_s:+.1f} s from here" if skew_s else "as here"
    step = "Set clocks by NTP: jobs' certificates and times in the log depend on them."
    return graded("clock", where, text, (abs(skew_s) > _SKEW_S, YELLOW, step))


def check_files(refusal: object, where: str) -> Finding:
    """Whether a worker sees run folder and model set."""
    text, _, step = str(refusal).rpartition(". ")
    text = text or str(refusal) or "as here"
    return graded("shared files", where, text, (refusal, RED, step or "See the worker's log."))


def check_dashboard(address: str | None, error: str) -> Finding:
    """Whether the dashboard can be reached from here."""
    step = "A run does not need it. From another machine a tunnel leads there (ssh -L)."
    text = f"{address}: {error}" if error else f"{address} answers"
    return graded("dashboard", HERE, text, (error, YELLOW, step))


def _gb(size: float) -> str:
    return f"{size / 1e9:,.1f} GB"


def _numbers(version: str | None) -> tuple[int, ...]:
    return tuple(map(int, (version or "0").split(".")))
