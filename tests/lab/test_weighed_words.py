import numpy as np
import pytest

from virnuc_dask.lab.chances import chances


def test_a_large_group_and_a_large_kind_do_not_rule():
    kinds = np.array(["phage"] * 101 + ["prokaryote"] + ["noise"])
    groups = np.array(["much"] * 100 + ["one"] + ["x", "y"])
    chance = chances(kinds, groups, {"phage": 0.5, "prokaryote": 0.5})
    assert chance.sum() == pytest.approx(1)
    assert chance[101] == pytest.approx(0.5)
    assert chance[:100].sum() == pytest.approx(10 * chance[100])
    assert chance[102] == 0
