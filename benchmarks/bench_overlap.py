"""How long a device stands idle between two partitions, with one and with two of them in work.

The device is pretended: encoders that sleep as long as a GPU would compute, so that everything
else is real and takes place on this machine: reading, frames, DNABERT-S's tokens, feature tables
of the published width, the classifier, Dask. ``--frames-per-s`` is what both encoders together
reach; 820 is the most that ESM-2 3B can on an H100. Beside the shares stands what a partition
takes of a core: what has to find room beside the device's time. The last line is JSON.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from distributed import Client, LocalCluster
from measured import options_of, report, write_metagenome
from numpy.typing import NDArray
from safetensors.torch import save_file

from virnuc_dask import load_settings, run
from virnuc_dask.encoders import encoder
from virnuc_dask.encoders.dnabert_s import DnabertS, read_tokenizer
from virnuc_dask.encoders.encoder import EncoderSpec, Placement
from virnuc_dask.encoders.esm2 import token_ids
from virnuc_dask.lab.speed.random_weights import DNABERT_S_SIZES, ESM2_SIZES, write_modelset
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.manifest import write_info

DNA_DIM, PEPTIDE_DIM = 768, 2560
SHARE_OF_DNA = 0.08  # of the computing: DNABERT-S beside ESM-2 3B
LENGTH = 500


class Pretended:
    """Sleeps on its tokens, and embeds them as their lengths."""

    seconds_per_text = 0.0

    def __init__(self, spec: EncoderSpec, folder: Path) -> None:
        self.dim = spec.dim
        self.weight_bytes = 0
        self.tokenizer = read_tokenizer(folder / spec.tokenizer) if spec.tokenizer else None

    @classmethod
    def load(cls, spec: EncoderSpec, folder: Path, placement: Placement) -> Self:
        """Its tokeniser, where it has one."""
        return cls(spec, folder)

    def tokenise(self, texts: Sequence[str]) -> Sequence[Any]:
        """As DNABERT-S or ESM-2 does."""
        if self.tokenizer is None:
            return [token_ids(text) for text in texts]
        return DnabertS.tokenise(self, texts)  # type: ignore[arg-type]

    def embed_tokens(self, tokens: Sequence[Any]) -> NDArray[np.float32]:
        """Their lengths, after a while."""
        time.sleep(len(tokens) * self.seconds_per_text)
        lengths = np.fromiter(map(len, tokens), np.float32, len(tokens))
        return np.repeat(lengths, self.dim).reshape(-1, self.dim)


class PretendedDna(Pretended):
    """In place of DNABERT-S."""


class PretendedPeptide(Pretended):
    """In place of ESM-2."""


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--chunks", type=int, default=12_000)
    parser.add_argument("--partition-chunks", type=int, default=1000)
    parser.add_argument("--frames-per-s", type=float, nargs="*", default=[820.0, 3000.0])
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    encoder.ARCHITECTURES |= {
        "dnabert_s": (__name__, PretendedDna.__name__),
        "esm2": (__name__, PretendedPeptide.__name__),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_pretended_modelset(folder / "model")
        write_metagenome(folder / "input.fa", options.chunks, LENGTH)
        rates = {rate: take_turns(folder, rate, options) for rate in options.frames_per_s}
    result = {
        "benchmark": "overlap",
        "chunks": options.chunks,
        "partition_chunks": options.partition_chunks,
        "by_frames_per_s": rates,
    }
    report(result, options, "distributed", "pyarrow")


def write_pretended_modelset(folder: Path) -> None:
    """The published widths and a tokeniser of the published size, without the encoders."""
    info = write_modelset(folder, DNABERT_S_SIZES["small"], ESM2_SIZES["8M"])
    classifier = Classifier(DNA_DIM + PEPTIDE_DIM, 512)
    save_file(classifier.state_dict(), folder / info.classifier.file)
    wide = replace(
        info,
        nucleotide=replace(info.nucleotide, dim=DNA_DIM),
        peptide=replace(info.peptide, dim=PEPTIDE_DIM),
    )
    write_info(folder, wide)


def take_turns(folder: Path, rate: float, options: argparse.Namespace) -> dict[str, float]:
    PretendedDna.seconds_per_text = SHARE_OF_DNA / rate
    PretendedPeptide.seconds_per_text = (1 - SHARE_OF_DNA) / rate
    shares: dict[str, list[float]] = {f"{count}_in_work": [] for count in options.at_once}
    cores: list[float] = []
    for _ in range(options.repeats):
        for count in options.at_once:
            start = time.process_time()
            share, partitions = idle_share(folder, count, options)
            shares[f"{count}_in_work"].append(share)
            cores.append((time.process_time() - start) / partitions)
    medians = {name: round(statistics.median(found), 4) for name, found in shares.items()}
    return medians | {"core_s_per_partition": round(statistics.median(cores), 3)}


def idle_share(folder: Path, at_once: int, options: argparse.Namespace) -> tuple[float, int]:
    """What the device stood idle, as a share of its time from first to last; and partitions."""
    flags = {"model": str(folder / "model"), "partition_chunks": options.partition_chunks}
    settings = load_settings(flags=flags | {"cluster.threads": 1})
    way = {"processes": False, "dashboard_address": "127.0.0.1:0"}
    with (
        LocalCluster(n_workers=1, threads_per_worker=at_once, **way) as cluster,
        Client(cluster) as client,
    ):
        out = folder / "out"
        done = run([folder / "input.fa"], out, settings=settings, client=client, force=True)
    computing_s = sum(done.summary["stage_s"][name] for name in ("nucleotide", "peptide"))
    idle_s = done.summary["device_idle_s"]
    return idle_s / (idle_s + computing_s), done.summary["partitions"]["computed"]


if __name__ == "__main__":
    main()
