"""``bench``: how fast this machine is with a model set, and the settings that make it so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from virnuc_dask.cluster.connect import local_workers
from virnuc_dask.cluster.gpus import count_gpus
from virnuc_dask.cluster.machine import versions
from virnuc_dask.config import Settings, cores
from virnuc_dask.lab.speed.encoders import EncoderFigures, EncoderPlan, measure_encoders
from virnuc_dask.lab.speed.machine import PeakMemory, describe
from virnuc_dask.lab.speed.metagenome import as_fasta, draw_metagenome
from virnuc_dask.lab.speed.process import Tell, in_own_process
from virnuc_dask.lab.speed.recommendation import as_yaml, best_split
from virnuc_dask.lab.speed.run_log import phases
from virnuc_dask.modelsets.manifest import find, read_info
from virnuc_dask.modelsets.sizes import encoder_bytes
from virnuc_dask.modelsets.source import ModelSource
from virnuc_dask.planning import chunk_length
from virnuc_dask.run import run

# About as many frames as chunks come out of a drawn metagenome, every second chunk coding.
_FRAMES_PER_CHUNK = 0.5
_FEWEST_CHUNKS, _MOST_CHUNKS = 64, 60_000
_PARTITIONS_PER_WORKER = 4
_SMALLEST_PARTITION = 8  # chunks
# Where genes are read: how fast a core does so, in round figures, and the contigs they are read in.
_NT_A_CORE_S = 1_000_000
_CONTIG_CHUNKS, _FEWEST_CONTIGS = 20, 64


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How much to measure."""

    esm2: tuple[str, ...] = ()  # sizes of ESM-2 with random weights, beside the model set
    quick: bool = False

    @property
    def trial_s(self) -> float:
        """Seconds for each rate of an encoder."""
        return 1.0 if self.quick else 3.0

    @property
    def run_s(self) -> float:
        """Seconds that a run shall take, start-up apart."""
        return 4.0 if self.quick else 12.0


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What was measured, and the ``--config`` file that it recommends."""

    encoders: EncoderFigures
    runs: Sequence[Mapping[str, Any]]  # one a split of the cores
    best: Mapping[str, Any]  # one of ``runs``
    recommendation: str
    model: str

    def as_json(self) -> dict[str, Any]:
        """Everything, with the machine it holds for."""
        return {
            "benchmark": "bench",
            "model": self.model,
            "machine": describe(),
            "versions": versions("distributed"),
            **self.encoders.as_json(),
            "runs": list(self.runs),
            "recommendation": self.recommendation,
        }


def bench(settings: Settings, options: BenchOptions, tell: Tell) -> BenchReport:
    """Measure matrix products, encoders, tokens a batch and whole runs, in this order.

    ``cluster.workers`` and ``cluster.threads`` are not varied where they are given. ``tell``, a
    module's function, is told every figure as it comes, also by the process that measures.

    `ModelSetError` if the model set is missing or damaged, or the device is not there.
    `NoClusterError` if no worker starts. `LostRowsError` if a process dies, or a run loses chunks.
    """
    info = read_info(find(settings.model))
    length = chunk_length(settings, info)
    threads = settings.cluster.threads or cores()
    source = replace(ModelSource.from_settings(settings, info), threads=threads)
    plan = EncoderPlan(source, length, options.esm2, options.trial_s)
    figures = in_own_process(measure_encoders, tell, plan)
    settings = replace(settings, length=length, precision=figures.precision)
    if figures.max_tokens is not None:
        settings = replace(settings, max_tokens=figures.max_tokens)
    runs = _run_splits(settings, figures, options, tell)
    best = best_split(runs)
    cluster = {name: best[name] for name in ("kind", "workers", "threads")}
    recommendation = as_yaml(figures.precision, figures.max_tokens, cluster)
    return BenchReport(figures, runs, best, recommendation, settings.model)


def splits(workers: int | None, threads: int | None, most: int, *, quick: bool) -> list[list[int]]:
    """Workers and threads of each, all cores used: from one worker to the ``most`` that fit.

    ``workers`` and ``threads`` are not varied where they are given; ``quick`` tries the two ends.
    """
    if workers is not None:
        return [[workers, threads or max(1, cores() // workers)]]
    counts = sorted({most, *(2**step for step in range(most.bit_length()))})
    if quick:
        counts = sorted({counts[0], counts[-1]})
    found = [[count, threads or max(1, cores() // count)] for count in counts]
    return [split for split in found if split[0] * split[1] <= cores()] or found[:1]


def _run_splits(
    settings: Settings, figures: EncoderFigures, options: BenchOptions, tell: Tell
) -> list[dict[str, Any]]:
    """Runs over one drawn metagenome, a cluster of workers for each split of the cores."""
    clusters = _clusters(settings, figures.device, quick=options.quick)
    most = max(cluster["workers"] for cluster in clusters)
    reads_genes = read_info(find(settings.model)).reads_genes
    records = _records(figures, options, reads_genes=reads_genes)
    size = max(_SMALLEST_PARTITION, records // (_PARTITIONS_PER_WORKER * most))
    settings = replace(settings, partition_chunks=min(settings.partition_chunks or size, size))
    length_nt = (settings.length or 500) * (_CONTIG_CHUNKS if reads_genes else 1)
    runs = []
    with TemporaryDirectory(prefix="virnuc-bench-") as scratch:
        folder = Path(scratch)
        with (folder / "metagenome.fasta").open("w") as stream:
            stream.writelines(as_fasta(draw_metagenome(records, length_nt)))
        for number, cluster in enumerate(clusters):
            now = replace(settings, cluster=replace(settings.cluster, **cluster))
            measured = _run_once(now, folder, folder / f"run-{number}", records * length_nt)
            runs.append(cluster | measured)
            tell(
                f"whole run, {cluster['workers']} worker(s), {cluster['threads'] or 'default'} "
                f"thread(s) each: {rate_text(measured)}, "
                f"{measured['peak_ram_bytes'] / 1e9:.1f} GB of memory"
            )
    return runs


def _records(figures: EncoderFigures, options: BenchOptions, *, reads_genes: bool) -> int:
    """Reads of a chunk each that a run shall have, or contigs of which genes are read."""
    if reads_genes:
        nt = _NT_A_CORE_S * cores() * options.run_s
        return max(_FEWEST_CONTIGS, int(nt / (_CONTIG_CHUNKS * 500)))
    frames = figures.frames_per_s * options.run_s
    return int(min(_MOST_CHUNKS, max(_FEWEST_CHUNKS, frames / _FRAMES_PER_CHUNK)))


def rate_text(measured: Mapping[str, Any]) -> str:
    """How fast a run was: by frames, or by nt where genes were read and frames are few."""
    if "genes" in measured:
        return f"{measured['nt_per_s'] / 1e6:,.2f} Mbp/s"
    return f"{measured['frames_per_s']:,.0f} frames/s"


def _clusters(settings: Settings, device: str, *, quick: bool) -> list[dict[str, Any]]:
    """The cluster settings to try."""
    given = settings.cluster
    common = {"device": device, "dashboard_port": 0, "scheduler": None, "scheduler_file": None}
    if device == "cuda":
        workers = given.workers or max(1, count_gpus()[0])
        return [common | {"kind": "cuda", "workers": workers, "threads": given.threads}]
    folder = find(settings.model)
    weights = encoder_bytes(folder, read_info(folder), settings.precision)
    most, _ = local_workers(replace(given, workers=None), weights)
    return [
        common | {"kind": "cpu", "workers": workers, "threads": threads}
        for workers, threads in splits(given.workers, given.threads, most, quick=quick)
    ]


def _run_once(settings: Settings, folder: Path, out: Path, length_nt: int) -> dict[str, Any]:
    with PeakMemory() as memory:
        done = run([folder / "metagenome.fasta"], out, settings=settings)
    done.require_complete()
    spent, summary = phases(done.folder, done.summary), done.summary
    names = ("chunks", "genes", "frames", "stage_s")
    return {
        **{name: summary[name] for name in names if name in summary},
        "nt_per_s": length_nt / spent["working_s"],
        "frames_per_s": summary["frames"] / spent["working_s"],
        **spent,
        "peak_ram_bytes": memory.ram_bytes,
        "peak_gpu_bytes": memory.gpu_bytes,
    }
