"""What Dask's default for worker memory costs: ``MALLOC_TRIM_THRESHOLD_=65536`` against none.

Each turn is a fresh process with or without it, one thread: ESM-2 8M on random weights, and frames.
The two take turns; the median of the turns counts. The last line is JSON.
"""

from __future__ import annotations

import os
import random
from functools import partial
from unittest.mock import patch

from measured import Figures, medians, options_of, report, take_turns

from virnuc_dask.lab.speed.process import in_own_process

VARIABLE, DASKS_DEFAULT = "MALLOC_TRIM_THRESHOLD_", "65536"
RESIDUES, PEPTIDES, CHUNKS = 166, 72, 1000
LEAST_S = 2.0  # of each measurement


def main() -> None:
    options = options_of(__doc__).parse_args()
    ways = {"dasks_default": {VARIABLE: DASKS_DEFAULT}, "without": {}}
    turns = take_turns({way: partial(measure_with, v) for way, v in ways.items()}, options.repeats)
    found = {way: medians(of_way, 1) for way, of_way in turns.items()}
    pairs = ((name, rate, found["dasks_default"][name]) for name, rate in found["without"].items())
    ratios = {name: round(rate / other, 2) for name, rate, other in pairs}
    report({"benchmark": "allocator", **found, "ratio": ratios}, options)


def measure_with(variables: dict[str, str]) -> Figures:
    """Rates of a fresh process with these variables in its environment."""
    inherited = {name: value for name, value in os.environ.items() if name != VARIABLE}
    with patch.dict(os.environ, inherited | variables, clear=True):
        return in_own_process(measure)


def measure() -> Figures:
    import torch

    from virnuc_dask.encoders.encoder import Placement
    from virnuc_dask.encoders.esm2 import Esm2, Esm2Module, Esm2Sizes
    from virnuc_dask.lab.speed.products import timed
    from virnuc_dask.sequences.frames import find_frames

    torch.set_num_threads(1)
    draw = random.Random(1)
    peptides = ["".join(draw.choices("ACDEFGHIKLMNPQRSTVWY", k=RESIDUES)) for _ in range(PEPTIDES)]
    chunks = ["".join(draw.choices("ACGT", k=500)) for _ in range(CHUNKS)]
    spent_s = timed(lambda: find_frames(chunks), LEAST_S).median
    rates = {"frames_mbp_per_s": 500 * CHUNKS / 1e6 / spent_s}
    for precision in ("fp32", "bf16"):
        placement = Placement(precision=precision)
        module = Esm2Module(Esm2Sizes(6, 320, 20)).to(placement.dtype).requires_grad_(False)
        module.inverse_frequencies = torch.rand(8)
        encoder = Esm2(module.eval(), placement)
        spent_s = timed(partial(encoder.embed, peptides), LEAST_S).median
        rates[f"esm2_8M_{precision}_tokens_per_s"] = PEPTIDES * (RESIDUES + 2) / spent_s
    return rates


if __name__ == "__main__":
    main()
