"""A made-up scored run, and the content of an evaluation of some."""

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest

from virnuc_dask.lab.labelled import Group, LabelledFiles
from virnuc_dask.lab.quality.assessment import assess, side_by_side
from virnuc_dask.lab.quality.scored import Scored, ScoredRun

COUNTS = {"phages": 20, "eukaryotic": 15, "bacteria": 30, "shuffled": 12}
LENGTHS = (400, 500, 2_000, 50_000)


def make_run(*, calibrated: bool, power: float = 1.0, genes: bool = False) -> ScoredRun:
    """Few shuffled ones have a score; a set that reads ``genes`` is unsure of every tenth."""
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
    score = 1 / (1 + np.exp(-2 * evidence))
    score[(labelled.group_of == 3) & (records % 6 > 0)] = np.nan
    unsure = (records % 10 == 3) & genes & ~np.isnan(score)
    contigs = Scored(
        score=score,
        called=(score >= 0.5) & ~unsure,
        is_virus=is_virus,
        length_nt=np.array(LENGTHS)[records % len(LENGTHS)],
        unsure=unsure,
        region=np.zeros(len(records), np.bool_),
        probability=score if calibrated else None,
    )
    return ScoredRun(labelled, pa.array([f"r{i}" for i in records]), contigs)


@pytest.fixture(scope="session")
def made_up_run():
    """Makes one: `calibrated` or not, of some `power`, reading `genes` or not."""
    return make_run


def make_content(*runs: ScoredRun, label: str = "mini (500 nt)") -> dict:
    compared = side_by_side([run.contigs for run in runs]) if len(runs) > 1 else [None]
    evaluations = [
        {
            "label": f"other {place}" if place else label,
            "modelset": {"name": "mini", "version": "1", "checksum": "c" * 64, "files": {}},
            "precision": "fp32",
            "called_by": "score >= 0.5",
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
