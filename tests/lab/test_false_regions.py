from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from tests.stages.test_regions import MODEL
from virnuc_dask.lab.false_regions import Found, discoveries, rates
from virnuc_dask.lab.insertions import unbroken
from virnuc_dask.lab.taught import Fragments


def found(record, evidence, length_nt, is_phage):
    flags = np.full(len(record), is_phage)
    return Found(np.array(record, int), np.array(evidence, float), flags, np.array(length_nt))


def test_rates_count_what_has_that_evidence_or_more_and_one_region_besides():
    at, rate = rates(found([0, 1, 3], [2.0, -1.0, 2.0], [500_000, 500_000, 0, 1_000_000], False))
    assert at == pytest.approx([-1.0, -1.0, 2.0])
    assert (at[1:] > [-1.0, 2.0]).all()
    assert rate.tolist() == [2.0, 1.5, 0.5]
    at, rate = rates(found([], [], [2_000_000], False))
    assert (at.tolist(), rate.tolist()) == ([0.0], [0.5])


def test_what_is_claimed_holds_where_false_ones_are_as_many_as_was_learnt():
    rng = np.random.default_rng(0)

    def hosts():
        record = np.flatnonzero(rng.random(2_000) < 0.1)
        return found(record, rng.exponential(2, len(record)), np.full(2_000, 30_000), False)

    model = replace(MODEL, false_rates=rates(hosts()))
    phages = found(range(300), rng.normal(8, 2, 300), np.full(300, 60_000), True)
    measured = discoveries(model, hosts(), phages)
    assert set(measured) == {"0.1", "0.01"}
    for levels in measured.values():
        for level, of in levels.items():
            assert of["false"] <= float(level) + 0.03
        assert levels["0.1"]["regions"] >= levels["0.01"]["regions"]
    assert measured["0.1"]["0.1"]["recall"] > 0.8 > measured["0.01"]["0.05"]["recall"]


def test_prokaryotes_alone_break_where_a_fragment_was_left_out_or_a_piece_of_the_genome_ends():
    """Of one genome: six fragments of 4 kb in two pieces, the second fragment is doubtful."""
    kind = np.array(["prokaryote"] * 6 + ["phage"] * 2)
    rows = np.arange(len(kind))
    fragments = Fragments(
        kind=kind,
        group=np.zeros(8, int),
        genome=(kind == "phage").astype(int),
        tile=np.array([0, 0, 0, 0, 1, 1, 2, 2]),
        length_nt=np.full(8, 4_000.0),
        fold=np.zeros(8, np.int8),
        is_doubtful=rows == 1,
        is_prophage=np.zeros(8, bool),
    )
    start = np.tile([0, 2_000], 8)
    genes = {"fragment": rows.repeat(2), "start": start, "end": start + 1_900}
    genes |= {"strand": np.ones(16, np.int8)}
    genes |= {name: np.zeros(16, bool) for name in ("partial_left", "partial_right")}
    alone = unbroken(fragments, pa.table(genes), rows < 8)
    fragment = genes["fragment"][alone["gene"]]
    of = [np.unique(fragment[alone["record"] == number]).tolist() for number in range(4)]
    assert of == [[0], [2, 3], [4, 5], []]
    assert alone["start"][alone["record"] == 1].tolist() == [0, 2000, 4000, 6000]
