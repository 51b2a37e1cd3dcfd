import numpy as np
import pytest

from virnuc_dask.lab.regions import match

GENES, INSIDE = 40, slice(12, 28)


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
