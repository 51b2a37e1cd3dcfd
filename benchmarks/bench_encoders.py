"""Tokens a second of our encoders beside their alternatives, on random weights of real sizes.

ESM-2: fair-esm's own forward, called as the published tool calls it (fp32, padded batches of at
most 2,048 tokens), against ours in fp32 and bf16, all with the same weights. DNABERT-S (117M):
our batches against one sequence at a time, which is how the published tool runs it.

Every variant is warmed up once, then all take turns; the median of the turns counts. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import esm
import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE

from virnuc_dask.encoders.dnabert_s import DnabertS, DnabertSModule, DnabertSSizes
from virnuc_dask.encoders.encoder import Placement, load_encoder
from virnuc_dask.measuring.machine import describe, versions
from virnuc_dask.modelsets.published_encoders import import_esm2

ESM2_SIZES = {"8M": (6, 320, 20), "35M": (12, 480, 20), "150M": (30, 640, 20)}
DNABERT_S = DnabertSSizes(layers=12, embed_dim=768, heads=12, mlp_dim=3072, vocabulary=4096)
RESIDUES, TOKENS_DNA = 166, 102
PUBLISHED_MAX_TOKENS = 2048
Variants = dict[str, Callable[[], object]]


def main() -> None:
    options = parse_options()
    torch.manual_seed(1)
    esm2 = {size: bench_esm2(size, options) for size in options.sizes}
    results = {
        "benchmark": "encoders",
        "machine": describe() | {"torch_threads": torch.get_num_threads()},
        "versions": versions("fair-esm", "tokenizers"),
        "gemm_gflops": {"fp32": gemm_rate(torch.float32), "bf16": gemm_rate(torch.bfloat16)},
        "tokens_per_peptide": RESIDUES + 2,
        "esm2": esm2,
        "dnabert_s_117M": bench_dnabert_s(options),
    }
    line = json.dumps(results)
    if options.out:
        options.out.write_text(line + "\n")
    print(line)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="*", choices=ESM2_SIZES, default=["8M", "35M"])
    parser.add_argument(
        "--texts", type=int, default=24, help="peptides a turn; a third as many frames"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the JSON line here too")
    return parser.parse_args()


def bench_esm2(size: str, options: argparse.Namespace) -> dict[str, float]:
    peptides = random_texts("ACDEFGHIKLMNPQRSTVWY", RESIDUES, options.texts)
    theirs = esm.ESM2(*ESM2_SIZES[size]).eval()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = import_esm2(write_checkpoint(theirs, folder / "esm2.pt"), folder)
        fp32 = load_encoder(spec, folder, Placement(precision="fp32"))
        bf16 = load_encoder(spec, folder, Placement(precision="bf16"))
    difference = np.abs(fp32.embed(peptides) - embed_as_published(theirs, peptides)).max()
    rates = take_turns(
        {
            "fair_esm_fp32": lambda: embed_as_published(theirs, peptides),
            "ours_fp32": lambda: fp32.embed(peptides),
            "ours_bf16": lambda: bf16.embed(peptides),
        },
        tokens=options.texts * (RESIDUES + 2),
        repeats=options.repeats,
    )
    return compared(rates, "fair_esm_fp32") | {"max_abs_difference_fp32": float(difference)}


def write_checkpoint(model: esm.ESM2, path: Path) -> Path:
    cfg = argparse.Namespace(
        encoder_layers=model.num_layers,
        encoder_embed_dim=model.embed_dim,
        encoder_attention_heads=model.attention_heads,
        token_dropout=model.token_dropout,
    )
    torch.save({"cfg": {"model": cfg}, "model": model.state_dict()}, path)
    return path


@torch.no_grad()
def embed_as_published(model: esm.ESM2, peptides: list[str]) -> np.ndarray:
    labels = [str(number) for number in range(len(peptides))]
    dataset = esm.FastaBatchedDataset(labels, peptides)
    convert, layer, rows = model.alphabet.get_batch_converter(), model.num_layers, {}
    for batch in dataset.get_batch_indices(PUBLISHED_MAX_TOKENS, extra_toks_per_seq=1):
        names, texts, tokens = convert([dataset[index] for index in batch])
        last = model(tokens, repr_layers=[layer])["representations"][layer]
        for name, text, hidden in zip(names, texts, last, strict=True):
            rows[name] = hidden[1 : len(text) + 1].mean(0).clone()
    return torch.stack([rows[label] for label in labels]).numpy()


def bench_dnabert_s(options: argparse.Namespace) -> dict[str, float]:
    # One token a base, and bases enough for the tokens of a 500 nt frame.
    tokenizer = Tokenizer(BPE({base: number for number, base in enumerate("ACGT")}, []))
    frames = max(1, options.texts // 3)
    texts = random_texts("ACGT", TOKENS_DNA, frames)
    modules = {p: DnabertSModule(DNABERT_S).eval().requires_grad_(False) for p in ("fp32", "bf16")}
    torch.nn.init.normal_(modules["fp32"].token_type)
    modules["bf16"].load_state_dict(modules["fp32"].state_dict())
    modules["bf16"].bfloat16()
    encoders = {
        "one_at_a_time_fp32": DnabertS(modules["fp32"], tokenizer, Placement(max_tokens=1)),
        "batched_fp32": DnabertS(modules["fp32"], tokenizer, Placement()),
        "batched_bf16": DnabertS(modules["bf16"], tokenizer, Placement(precision="bf16")),
    }
    variants: Variants = {
        name: lambda encoder=encoder: encoder.embed(texts) for name, encoder in encoders.items()
    }
    rates = take_turns(variants, tokens=frames * TOKENS_DNA, repeats=options.repeats)
    return compared(rates, "one_at_a_time_fp32")


def take_turns(variants: Variants, tokens: int, repeats: int) -> dict[str, float]:
    """Tokens a second of each variant, the median of its turns."""
    elapsed_s: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(repeats + 1):
        for name, embed in variants.items():
            start = time.perf_counter()
            embed()
            if turn:
                elapsed_s[name].append(time.perf_counter() - start)
    return {name: tokens / statistics.median(times) for name, times in elapsed_s.items()}


def compared(rates: dict[str, float], baseline: str) -> dict[str, float]:
    """Rates, and each one's ratio to the baseline's."""
    report = {f"{name}_tokens_per_s": round(rate, 1) for name, rate in rates.items()}
    for name, rate in rates.items():
        if name != baseline:
            report[f"{name}_ratio"] = round(rate / rates[baseline], 3)
    return report


def random_texts(letters: str, length: int, texts: int) -> list[str]:
    rng = np.random.default_rng(2)
    return ["".join(rng.choice(list(letters), length)) for _ in range(texts)]


def gemm_rate(dtype: torch.dtype, size: int = 2048) -> float:
    """GFLOP/s of a square matrix product, the best of five."""
    a, b = torch.randn(2, size, size).to(dtype)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return round(2 * size**3 / min(times) / 1e9, 1)


if __name__ == "__main__":
    main()
