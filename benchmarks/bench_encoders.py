"""Tokens a second of our encoders beside their alternatives, on random weights of real sizes.

ESM-2: fair-esm's own forward, called as the published tool calls it (fp32, padded batches of at
most 2,048 tokens), and transformers' `EsmModel` with SDPA, against ours in every precision that the
machine has, all with the same weights. DNABERT-S (117M): ours against one sequence
at a time in plain fp32, which is how the published tool runs it.

``--busy 2`` measures beside two busy loops. ``ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2
MKL_ENABLE_INSTRUCTIONS=AVX2`` in the environment plays a processor without AVX-512.

The rate of the encoder's matrix products alone is measured first. Every variant is warmed up once,
then all take turns; rates are medians of the turns, ratios medians of the turns' ratios. Cosines
are those of the worst embedding to the alternative's in fp32. The last line is JSON.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from measured import medians, options_of, ratio, report, spent, take_turns, tell
from peers import FairEsm, PlainDnabertS, Transformers

from virnuc_dask.config import cores
from virnuc_dask.encoders.cost import layer_of
from virnuc_dask.encoders.encoder import Placement
from virnuc_dask.encoders.fp8 import gpu_multiplies_fp8
from virnuc_dask.lab.speed.encoders import (
    PEPTIDE,
    Subject,
    count_tokens,
    precisions,
    smallest_cosine,
)
from virnuc_dask.lab.speed.products import gemm_rate
from virnuc_dask.lab.speed.random_weights import (
    DNABERT_S_SIZES,
    ESM2_SIZES,
    write_dnabert_s,
    write_esm2,
)
from virnuc_dask.modelsets.environment import prepare_torch
from virnuc_dask.modelsets.modelset import limit_threads

FAIR, PLAIN = "fair_esm_fp32", "one_at_a_time_fp32"
CHUNK_LENGTH = 500
# Peptides a turn on a CPU, so that a turn of the slowest variant takes some seconds; a GPU gets
# so many times more.
# All make a whole number of batches for each of two threads.
TEXTS = {"8M": 48, "35M": 24, "150M": 24, "650M": 24, "3B": 24}
DNABERT_S_TEXTS = 40
GPU_FACTOR = 64
Embed = Callable[[list[str]], object]


def main() -> None:
    options = parse_options()
    prepare_torch()
    limit_threads(options.threads)
    results: dict[str, object] = {
        "benchmark": "encoders",
        "device": options.device,
        "torch_threads": torch.get_num_threads(),
        "chunk_length": options.length,
        "busy_processes": options.busy,
    }
    with busy(options.busy):
        results["esm2"] = {size: bench_esm2(size, options) for size in options.sizes}
        if options.dnabert_s:
            results["dnabert_s"] = {options.dnabert_s: bench_dnabert_s(options)}
    report(results, options, "fair-esm", "transformers", "tokenizers")


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many other processes that compute all the time, as on a shared node."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def bench_esm2(size: str, options: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as scratch:
        folder, device = Path(scratch), options.device
        spec = write_esm2(ESM2_SIZES[size], folder)
        subject = Subject(f"ESM-2 {size}", spec, folder, options.length)
        theirs: dict[str, Embed] = {FAIR: FairEsm(spec, folder, device).embed}
        for precision in sorted({"fp32", "bf16"} & set(precisions(device)), reverse=True):
            peer = Transformers(spec, folder, device, precision, options.peer_max_tokens)
            theirs[f"transformers_{precision}"] = peer.embed
        return compare(subject, theirs, TEXTS[size], options)


def bench_dnabert_s(options: argparse.Namespace) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = write_dnabert_s(DNABERT_S_SIZES[options.dnabert_s], folder)
        subject = Subject("DNABERT-S", spec, folder, options.length)
        theirs: dict[str, Embed] = {PLAIN: PlainDnabertS(spec, folder, options.device).embed}
        return compare(subject, theirs, DNABERT_S_TEXTS, options)


def our_variants(subject: Subject, options: argparse.Namespace) -> dict[str, Embed]:
    """Our encoder in every precision, and compiled where that can be asked for."""
    found: dict[str, Embed] = {}
    for precision in compared(subject, options):
        placement = Placement(options.device, precision, options.max_tokens)
        found[f"ours_{precision}"] = subject.load(placement).embed
        if options.compile:
            compiled = subject.load(replace(placement, compile=True))
            found[f"ours_{precision}_compiled"] = compiled.embed
    return found


def compared(subject: Subject, options: argparse.Namespace) -> tuple[str, ...]:
    """What is compared: all of the device's; of 8 bits only ESM-2's products are made."""
    usual = precisions(options.device)
    if options.device == "cuda" and subject.kind == PEPTIDE and gpu_multiplies_fp8():
        return (*usual, "fp8")
    return usual


def ceiling(subject: Subject, options: argparse.Namespace) -> dict[str, float]:
    """GFLOP/s of the encoder's matrix products and nothing else, by precision."""
    layer = layer_of(subject.spec)
    if layer is None:
        raise ValueError(f"{subject.label} has no matrix products")
    found = {
        precision: round(gemm_rate(layer, precision, options.device, options.gemm_s) / 1e9, 1)
        for precision in compared(subject, options)
    }
    tell(f"{subject.label}: matrix products, GFLOP/s: {found}")
    return found


def compare(
    subject: Subject, theirs: Mapping[str, Embed], count: int, options: argparse.Namespace
) -> dict[str, object]:
    """Rates, ratios to the first variant, shares of the ceiling, cosines to the first variant."""
    gemm = ceiling(subject, options)
    variants = {**theirs, **our_variants(subject, options)}
    count = options.texts or count * (GPU_FACTOR if options.device == "cuda" else 1)
    texts = subject.draw_texts(count)
    baseline = next(iter(variants))
    wanted = {baseline, *(options.variants or variants)}
    chosen = {name: embed for name, embed in variants.items() if name in wanted}
    # Embeddings leave the GPU: what is timed has been awaited.
    embeddings = {name: embed(texts) for name, embed in chosen.items()}
    works = {name: partial(spent, partial(embed, texts)) for name, embed in chosen.items()}
    turns = take_turns(works, options.repeats)
    tokens = count_tokens(subject.load(Placement(options.device)), texts)
    layer = layer_of(subject.spec)
    assert layer is not None
    gflops = tokens * layer.flops_per_token(tokens / len(texts)) / 1e9
    found: dict[str, object] = {
        "gemm_gflops": gemm,
        "tokens_per_text": round(tokens / len(texts), 1),
        "texts": len(texts),
    }
    for name, took in turns.items():
        median_s = medians(took, None)["wall_s"]
        precision = next(p for p in gemm if p in name)
        figures = {
            "tokens_per_s": round(tokens / median_s, 1),
            f"ratio_to_{baseline}": ratio(turns[baseline], took, "wall_s"),
            "fraction_of_gemm": round(gflops / median_s / gemm[precision], 3),
            "smallest_cosine": round(smallest_cosine(embeddings[name], embeddings[baseline]), 7),
        }
        tell(f"{subject.label}, {name}: {figures}")
        found[name] = figures | {"turns_s": [round(turn["wall_s"], 4) for turn in took]}
    return found


def parse_options() -> argparse.Namespace:
    parser = options_of(__doc__)
    parser.add_argument("--sizes", nargs="*", choices=ESM2_SIZES, default=["8M", "35M"])
    parser.add_argument("--dnabert-s", choices=DNABERT_S_SIZES, default="117M")
    parser.add_argument("--no-dnabert-s", dest="dnabert_s", action="store_const", const=None)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--busy", type=int, default=0, help="busy processes beside it")
    parser.add_argument("--length", type=int, default=CHUNK_LENGTH, help="of the chunks, in nt")
    parser.add_argument("--texts", type=int, help="frames a turn; default: by size and device")
    parser.add_argument("--gemm-s", type=float, default=2.0, help="seconds for each ceiling")
    parser.add_argument("--max-tokens", type=int, help="a batch of ours; default: automatic")
    parser.add_argument("--peer-max-tokens", type=int, default=4096, help="of transformers")
    parser.add_argument("--variants", nargs="*", help="only these, beside the first")
    parser.add_argument("--compile", action="store_true", help="ours compiled too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
