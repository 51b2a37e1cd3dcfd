"""How long until a model set is loaded: ESM-2 3B with random weights beside the encoder of `mini`.

Writes a model set of that size into ``--work`` (5.7 GB in fp16) unless it is there, then loads it
in fresh processes: cold (its files dropped from the page cache first) and warm, in turns. Counted
is `load`, from the manifest to an encoder that can be called, every file verified; beside it a
first peptide of one residue, which on a CPU brings all memory-mapped weights in, the memory that
both took beside what is mapped, and the rates at which the machine reads and hashes. The last line
is JSON.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from measured import Figures, medians, options_of, report, spent, take_turns

from virnuc_dask.lab.speed.process import in_own_process

SIZES = ("8M", "35M", "150M", "650M", "3B")
DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
HIDDEN = 512


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the model set")
    parser.add_argument("--size", choices=SIZES, default="3B")
    parser.add_argument("--stored", choices=DTYPES, default="fp16")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    folder = options.work / f"esm2-{options.size}-{options.stored}"
    if not (folder / "modelset.json").exists():
        write_modelset(folder, options.size, options.stored)

    def load(*, cold: bool) -> Figures:
        if cold:
            drop_from_cache(folder)
        return in_own_process(measure, folder, options.device, options.precision)

    turns = take_turns(
        {"cold": lambda: load(cold=True), "warm": lambda: load(cold=False)}, options.repeats
    )
    names = ("size", "stored", "precision", "device")
    result = {
        "benchmark": "loading",
        **{name: getattr(options, name) for name in names},
        "file_gb": round((folder / "peptide.safetensors").stat().st_size / 1e9, 2),
        **{state: medians(measured) for state, measured in turns.items()},
        **read_rates(folder / "peptide.safetensors"),
    }
    report(result, options, "safetensors")


def measure(folder: Path, device: str, precision: str) -> Figures:
    """Seconds of one load in this process, which has only just begun."""
    start = time.perf_counter()
    from virnuc_dask.modelsets.modelset import load_modelset

    imported = time.perf_counter()
    before, cores = own_bytes(), time.process_time()
    models = load_modelset(str(folder), device=device, precision=precision)
    loaded, cores = time.perf_counter(), time.process_time() - cores
    assert models.encoders is not None
    models.encoders[1].embed(["M"])
    first = time.perf_counter()
    return {
        "import_s": imported - start,
        "load_s": loaded - imported,
        "load_core_s": cores,
        "first_peptide_s": first - loaded,
        "own_memory_gb": (own_bytes() - before) / 1e9,
    }


def own_bytes() -> int:
    """Memory that is this process's alone; what is mapped from a file is not."""
    rollup = Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    line = next(line for line in rollup.splitlines() if line.startswith("Anonymous:"))
    return 1024 * int(line.split()[1])


def write_modelset(folder: Path, size: str, stored: str) -> None:
    """An ESM-2 with random weights beside the nucleotide encoder of `mini`; whole or not there."""
    from safetensors.torch import save_file

    from virnuc_dask.encoders.encoder import EncoderSpec
    from virnuc_dask.lab.speed.random_weights import ESM2_SIZES
    from virnuc_dask.modelsets.classifier import Classifier
    from virnuc_dask.modelsets.manifest import (
        FRAMES,
        ClassifierSpec,
        find,
        read_info,
        write_info,
    )

    mini, sizes = find("mini"), ESM2_SIZES[size]
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
        write_esm2(made / info.peptide.file, size, stored)
        classifier = Classifier(info.feature_dim, HIDDEN)
        save_file(classifier.state_dict(), made / info.classifier.file)
        write_info(made, info)
        made.rename(folder)


def write_esm2(path: Path, size: str, stored: str) -> None:
    """Tensor by tensor: in fp32 all of them would take 11 GB."""
    import torch
    from safetensors.torch import save_file

    from virnuc_dask.encoders.esm2 import Esm2Module
    from virnuc_dask.lab.speed.random_weights import ESM2_SIZES

    with torch.device("meta"):
        module = Esm2Module(ESM2_SIZES[size])
    torch.manual_seed(1)
    tensors = {
        name: torch.randn(parameter.shape).mul_(0.02).to(getattr(torch, DTYPES[stored]))
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


def read_rates(path: Path) -> Figures:
    """GB/s at which the file is read from the disk, and hashed once it is in memory."""
    drop_from_cache(path.parent)
    size_gb, buffer = path.stat().st_size / 1e9, bytearray(16 << 20)

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    def digest() -> None:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")

    works = {"disk_gb_per_s": read, "sha256_gb_per_s": digest}
    return {name: round(size_gb / spent(work)["wall_s"], 2) for name, work in works.items()}


if __name__ == "__main__":
    main()
