"""A made-up scored run, and the content of an evaluation of some."""

from dataclasses import asdict, replace

import numpy as np
import pyarrow as pa
import pytest

from virnuc_dask.lab.labelled.files import Group, LabelledFiles
from virnuc_dask.lab.quality.assessment import assess, difference, side_by_side
from virnuc_dask.lab.quality.scored import Level, ScoredRun

COUNTS = {"phages": 20, "eukaryotic": 15, "bacteria": 30, "shuffled": 12}
LENGTHS = (400, 700, 2_000, 50_000)


def make_run(*, calibrated: bool, power: float = 1.0, genes: bool = False) -> ScoredRun:
    """Three chunks a record, two frames a chunk; shuffled chunks have no score but a few.

    Of a set that reads ``genes`` there are contigs alone; it is unsure of every tenth.
    """
    rng = np.random.default_rng(0)
    labelled = LabelledFiles(
        tuple(
            Group(name, f"{name}.fa", name in ("phages", "eukaryotic"), n, 1_000, "0" * 64)
            for name, n in COUNTS.items()
        ),
        *(np.zeros(sum(COUNTS.values()), dtype) for dtype in (np.int64, np.uint64)),
    )
    is_virus, records = labelled.is_virus, np.arange(sum(COUNTS.values()))
    evidence = rng.normal(size=len(records)) + np.where(is_virus, power, -power)

    def level(copies: int, length_nt: np.ndarray) -> Level:
        record = np.repeat(records, copies)
        of_each = evidence[record] + rng.normal(scale=0.1, size=len(record))
        score = 1 / (1 + np.exp(-2 * of_each))
        unscored = (labelled.group_of[record] == 3) & (np.arange(len(record)) % 6 > 0)
        score[unscored] = np.nan
        likely = score if calibrated and copies < 6 else None
        return Level(score, score >= 0.5, is_virus[record], record, length_nt, likely)

    contigs = level(1, np.array(LENGTHS)[records % len(LENGTHS)])
    unsure = records % 10 == 3 if genes else np.zeros(len(records), np.bool_)
    unsure &= contigs.is_scored
    contigs = replace(contigs, unsure=unsure, called=contigs.called & ~unsure)
    chunk_nt = np.where(np.arange(3 * len(records)) % 3 == 2, 310, 500)
    return ScoredRun(
        labelled,
        500,
        pa.array([f"r{i}" for i in records]),
        frames=None if genes else level(6, np.repeat(chunk_nt, 2)),
        chunks=None if genes else level(3, chunk_nt),
        contigs=contigs,
    )


@pytest.fixture(scope="session")
def made_up_run():
    """Makes one: `calibrated` or not, of some `power`, reading `genes` or not."""
    return make_run


def make_content(*runs: ScoredRun, label: str = "mini (500 nt)") -> dict:
    first = runs[0].chunks
    compared = side_by_side([run.contigs for run in runs]) if len(runs) > 1 else [None]
    evaluations = [
        {
            "label": f"other {place}" if place else label,
            "modelset": {"name": "mini", "version": "1", "checksum": "c" * 64, "files": {}},
            "precision": "fp32",
            "called_by": "score >= 0.5",
            "difference_to_first": difference(run.chunks, first, run.labelled.is_virus)
            if place and run.chunks and first
            else None,
            "shared_contigs": shared,
            **assess(run),
        }
        for place, (run, shared) in enumerate(zip(runs, compared, strict=True))
    ]
    about = {"virnuc_dask": "0", "versions": {"python": "3"}, "seed": 0, "resamples": 200}
    groups = [asdict(group) for group in runs[0].labelled.groups]
    return about | {"groups": groups, "warnings": [], "evaluations": evaluations}


@pytest.fixture(scope="session")
def content_of():
    """Makes what `evaluation.json` holds of runs; the first one has the `label`."""
    return make_content
