from dataclasses import replace

import numpy as np
import pytest

from virnuc_dask.lab.insertions import PLACED, Drawn
from virnuc_dask.lab.regions import false_a_megabase, fit_regions, match, matches

GENES, INSIDE = 40, slice(12, 28)
WEIGHT = 2.0


def records(rng, many, kinds):
    """Genes whose logit is worth twice itself, and that turn as phages' or as hosts' do."""
    genes = np.zeros(many * GENES, PLACED)
    genes["record"] = np.repeat(np.arange(many), GENES)
    genes["start"] = np.tile(np.arange(GENES) * 1_000, many)
    genes["end"] = genes["start"] + 900
    genes["is_viral"].reshape(many, GENES)[:, kinds] = True
    turns = rng.random(len(genes)) < np.where(genes["is_viral"], 0.25, 0.5)
    genes["strand"] = np.where(np.cumsum(turns) % 2, 1, -1)
    return genes


@pytest.fixture(scope="module")
def known():
    """Records and the evidence of their genes, of which only the first column says anything."""
    rng = np.random.default_rng(0)
    parts = [records(rng, many, kind) for many, kind in ((60, INSIDE), (20, slice(None)))]
    parts.append(records(rng, 200, slice(0)))
    first = 0
    for part in parts:
        part["gene"] = np.arange(first, first + len(part))
        first += len(part)
    is_viral = np.concatenate(parts)["is_viral"]
    logit = rng.normal(np.where(is_viral, 1, -1) * WEIGHT / 2)
    return Drawn(*parts), np.column_stack([logit, rng.normal(size=first)]).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(known):
    return fit_regions(*known, most_false=2.0)


def test_it_finds_what_was_planted_as_much_as_it_may(known, fitted):
    drawn, evidence = known
    logit, other = fitted.weight
    assert logit == pytest.approx(WEIGHT, rel=0.1)
    assert other == 0
    # In phages three of four neighbours turn the same way, in hosts one of two.
    assert fitted.structure == pytest.approx([0, np.log(3)], abs=0.15)
    assert false_a_megabase(drawn.hosts, fitted, evidence) <= 2
    assert matches(drawn.insertions, fitted, evidence).is_found.mean() > 0.9
    looser = replace(fitted, bias=fitted.bias + 0.5)
    assert false_a_megabase(drawn.hosts, looser, evidence) > 2


def test_fewer_false_regions_cost_evidence_and_without_insertions_there_is_no_model(known, fitted):
    assert fit_regions(*known, most_false=0.2).bias < fitted.bias
    none = np.zeros(0, PLACED)
    assert fit_regions(Drawn(none, none, none), known[1], 1.0) is None


def stretches(*rows):
    return np.array(rows, np.int64).reshape(-1, 3)


@pytest.mark.parametrize(
    ("regions", "pieces", "covered", "is_found"),
    [
        ([], 0, 0.0, False),
        ([(0, 1000, 2000)], 1, 1.0, True),
        ([(0, 1500, 2000)], 1, 0.5, True),
        ([(0, 1501, 2000)], 1, 0.499, False),
        ([(0, 1000, 3000)], 1, 1.0, True),
        ([(0, 1000, 3001)], 1, 1.0, False),
        ([(0, 1000, 1300), (0, 1350, 1950), (0, 2000, 2100)], 2, 0.9, True),
    ],
)
def test_an_insertion_is_found_if_half_of_it_and_half_of_the_region_agree(
    regions, pieces, covered, is_found
):
    of = match(stretches((0, 1000, 2000)), stretches(*regions))
    assert of.length_nt.tolist() == [1000]
    assert of.pieces.tolist() == [pieces]
    assert of.covered[0] == pytest.approx(covered)
    assert of.is_found.tolist() == [is_found]


def test_boundary_errors_are_those_of_the_region_that_covers_most():
    insertions = stretches((0, 1000, 2000), (1, 0, 500))
    of = match(insertions, stretches((0, 900, 1100), (0, 1150, 2030), (1, 0, 500)))
    assert of.off_nt.tolist() == [[150, 30], [0, 0]]
    assert of.pieces.tolist() == [2, 1]
