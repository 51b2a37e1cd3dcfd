"""How long until a model set is loaded: ESM-2 3B with random weights beside the encoder of `mini`.

Writes a model set of that size into ``--work`` (5.7 GB in fp16) unless it is there, then loads it
in fresh processes: cold (its files dropped from the page cache first) and warm, in turns. Counted
is `load`, from the manifest to an encoder that can be called, every file verified; beside it a
first peptide of one residue, which on a CPU brings all memory-mapped weights in, the memory that
both took beside what is mapped, and the rates at which the machine reads and hashes. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from virnuc_dask.measuring.machine import describe, versions

if TYPE_CHECKING:
    from virnuc_dask.encoders.esm2 import Esm2Sizes

SIZES = ("8M", "35M", "150M", "650M", "3B")
HIDDEN = 512


def main() -> None:
    options = parse_options()
    if options.measure:
        print(json.dumps(measure(options)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    folder = options.work / f"esm2-{options.size}-{options.stored}"
    if not (folder / "modelset.json").exists():
        write_modelset(folder, options.size, options.stored)
    turns: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    for _ in range(options.repeats):
        for state, measured in turns.items():
            if state == "cold":
                drop_from_cache(folder)
            measured.append(measure_in_new_process(folder, options))
    rate = read_rates(folder / "peptide.safetensors")
    result = {
        "benchmark": "loading",
        "size": options.size,
        "stored": options.stored,
        "precision": options.precision,
        "device": options.device,
        "file_gb": round((folder / "peptide.safetensors").stat().st_size / 1e9, 2),
        "repeats": options.repeats,
        **{state: medians(measured) for state, measured in turns.items()},
        **rate,
        "machine": describe(),
        "versions": versions("safetensors"),
    }
    line = json.dumps(result)
    if options.out:
        options.out.write_text(line + "\n", encoding="utf-8")
    print(line)


def measure_in_new_process(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    arguments = ["--work", str(folder), "--precision", options.precision]
    done = subprocess.run(
        [sys.executable, __file__, "--measure", "--device", options.device, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of one load in this process, which has only just begun."""
    start = time.perf_counter()
    from virnuc_dask.modelsets.modelset import load_modelset

    imported = time.perf_counter()
    before, cores = own_bytes(), time.process_time()
    models = load_modelset(str(options.work), device=options.device, precision=options.precision)
    loaded, cores = time.perf_counter(), time.process_time() - cores
    assert models.encoders is not None
    models.encoders[1].embed(["M"])
    first = time.perf_counter()
    return {
        "import_s": round(imported - start, 3),
        "load_s": round(loaded - imported, 3),
        "load_core_s": round(cores, 3),
        "first_peptide_s": round(first - loaded, 3),
        "own_memory_gb": round((own_bytes() - before) / 1e9, 3),
    }


def own_bytes() -> int:
    """Memory that is this process's alone; what is mapped from a file is not."""
    rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    line = next(line for line in rollup.splitlines() if line.startswith("Anonymous:"))
    return 1024 * int(line.split()[1])


def write_modelset(folder: Path, size: str, stored: str) -> None:
    """An ESM-2 with random weights beside the nucleotide encoder of `mini`; whole or not there."""
    from virnuc_dask.encoders.encoder import EncoderSpec
    from virnuc_dask.measuring.random_weights import ESM2_SIZES
    from virnuc_dask.modelsets.classifier import Classifier
    from virnuc_dask.modelsets.manifest import (
        FRAMES,
        ClassifierSpec,
        find,
        read_info,
        write_info,
    )
    from virnuc_dask.modelsets.published_encoders import write_tensors

    mini = find("mini")
    sizes = ESM2_SIZES[size]
    info = replace(
        read_info(mini),
        name=folder.name,
        peptide=EncoderSpec("esm2", sizes.embed_dim, "peptide.safetensors", asdict(sizes)),
        classifier=ClassifierSpec("classifier.safetensors", HIDDEN),
        calibration=None,
        reading=FRAMES,
        genes=None,
        contig_model=None,
    )
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "set"
        made.mkdir()
        shutil.copyfile(mini / info.nucleotide.file, made / info.nucleotide.file)
        write_esm2(made / info.peptide.file, sizes, stored)

        def build() -> Classifier:
            return Classifier(info.feature_dim, HIDDEN)

        target = made / info.classifier.file
        write_tensors(target, target, build().state_dict(), build)
        write_info(made, info)
        made.rename(folder)


def write_esm2(path: Path, sizes: Esm2Sizes, stored: str) -> None:
    """Tensor by tensor: in fp32 all of them would take 11 GB."""
    import torch
    from safetensors.torch import save_file

    from virnuc_dask.encoders.esm2 import Esm2Module

    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[stored]
    with torch.device("meta"):
        module = Esm2Module(sizes)
    torch.manual_seed(1)
    tensors = {
        name: torch.randn(parameter.shape).mul_(0.02).to(dtype)
        for name, parameter in module.named_parameters()
    }
    tensors["inverse_frequencies"] = torch.rand(module.inverse_frequencies.shape)
    save_file(tensors, path)


def drop_from_cache(folder: Path) -> None:
    """Have the system forget the pages of all files: the next read is from the disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_rates(path: Path) -> dict[str, float]:
    """GB/s at which the file is read from the disk, and hashed once it is in memory."""
    drop_from_cache(path.parent)
    size_gb = path.stat().st_size / 1e9
    buffer = bytearray(16 << 20)
    start = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    read_s = time.perf_counter() - start
    start = time.perf_counter()
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    hash_s = time.perf_counter() - start
    return {
        "disk_gb_per_s": round(size_gb / read_s, 2),
        "sha256_gb_per_s": round(size_gb / hash_s, 2),
    }


def medians(measured: list[dict[str, float]]) -> dict[str, float]:
    return {
        name: round(statistics.median(figures[name] for figures in measured), 3)
        for name in measured[0]
    }


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for the model set")
    parser.add_argument("--size", choices=SIZES, default="3B")
    parser.add_argument("--stored", choices=("fp32", "fp16", "bf16"), default="fp16")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="file for the JSON line")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
