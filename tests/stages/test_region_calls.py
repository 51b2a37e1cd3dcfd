"""q-values of regions: how many are false, by the DNA without a virus and the regions in it."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from tests.stages.test_regions import MODEL
from virnuc_dask.stages.region_calls import Regions
from virnuc_dask.tables import schemas

# Of evidence 0 and more, 4 and more, 8 and more: regions in a megabase without a virus.
RATED = replace(MODEL, false_rates=np.array([[0.0, 4.0, 8.0], [1.0, 0.1, 0.01]]))
MEGABASE = 1_000_000


def judged(evidence, calls, model=RATED, length_nt=MEGABASE):
    """A region a record, of this evidence, in records of these calls, in two pieces."""
    rows = len(evidence)
    given = {"record_id": [""] * rows, "record_index": range(rows), "evidence": evidence}
    given["probability"] = [0.9] * rows
    table = schemas.filled(schemas.REGIONS, given, rows)
    regions = Regions(model=model)
    regions.add(table.slice(0, 1))
    regions.add(table.slice(1))
    records = pa.table({"length_nt": [length_nt] * rows})
    pieces = (slice(0, 2), slice(2, None))
    called = [(records[of], SimpleNamespace(call=np.array(calls)[of])) for of in pieces]
    regions.compare(called)
    return pa.concat_tables(regions.pieces())


def test_it_is_the_share_of_false_ones_that_so_much_dna_has_among_those_of_no_less_evidence():
    found = judged([9.0, 5.0, 4.0, 1.0, -1.0], ["others", "unsure", "others", "others", "others"])
    # Five megabases: 0.05, 0.5 and 5 false ones, of 1, 3 and 5.
    assert found["q_value"].to_pylist() == pytest.approx([0.05, 1 / 6, 1 / 6, 1, 1])
    assert found["is_sure"].to_pylist() == [True, False, False, False, False]


def test_viruses_and_their_regions_say_nothing_of_the_others():
    alone = judged([9.0, 5.0], ["others", "others"])["q_value"].to_pylist()
    found = judged([9.0, 5.0, 9.0, 5.0, 5.0], ["others", "others", "virus", "virus", "virus"])
    assert found["q_value"].to_pylist() == [*alone, alone[0], alone[1], alone[1]]
    of_viruses = judged([9.0, 5.0], ["virus", "virus"])
    assert of_viruses["q_value"].to_pylist() == [0, 0]


def test_more_evidence_is_never_less_sure():
    found = judged([4.0] * 50 + [8.0], ["others"] * 51, length_nt=MEGABASE * 2)
    assert found["q_value"].to_pylist() == pytest.approx([102 * 0.1 / 51] * 51)


def test_without_rates_it_is_the_mean_doubt_and_no_calls_are_asked_for():
    found = judged([9.0, 5.0], ["virus", "others"], model=MODEL)
    assert found["q_value"].to_pylist() == pytest.approx([0.1, 0.1])
    assert not any(found["is_sure"].to_pylist())
    Regions(model=MODEL).compare(iter([None]))
