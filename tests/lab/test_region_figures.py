import numpy as np
import pytest

from virnuc_dask.lab.insertions import PLACED, Drawn
from virnuc_dask.lab.regions import figures, match
from virnuc_dask.modelsets.region_model import RegionModel

MODEL = RegionModel(np.array([1.0]), 0.0, 4.0, 0.5, 0.01, 0.01, 2)


def stretches(*rows):
    return np.array(rows, np.int64).reshape(-1, 3)


def records(*texts, first=0):
    """A gene a letter, 900 nt of every 1,000; v is viral. Evidence is apart, from row ``first``."""
    genes = np.zeros(sum(map(len, texts)), PLACED)
    genes["gene"] = np.arange(len(genes)) + first
    genes["is_viral"] = [letter == "v" for letter in "".join(texts)]
    genes["record"] = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
    genes["start"] = np.concatenate([np.arange(len(text)) * 1000 for text in texts])
    genes["end"] = genes["start"] + 900
    return genes


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


def test_figures_of_a_model_that_sees_all_but_some():
    insertions = records("hhhhvvvvhhh", "h" * 12 + "v" * 25 + "hh")
    phages, hosts = records("vvvvvv", first=50), records("h" * 10, "h" * 10, first=56)
    # Of the first insertion nothing is seen, of the other one all; four genes of a host are false.
    seen = np.isin(np.arange(76), [*range(23, 48), *range(50, 56), *range(68, 72)])
    evidence = np.where(seen, 4, -4).astype(np.float32)[:, None]
    of = figures(MODEL, evidence, Drawn(insertions, phages, hosts))
    exact = {"off_nt": 0, "off_nt_90": 0, "pieces": 1}
    megabases = 2 * 9_900 / 1e6
    assert of == {
        "insertions, 0 to 10000 nt": {"records": 1, "found": 0, "covered": 0},
        "insertions, 20000 to 40000 nt": {"records": 1, "found": 1, "covered": 1} | exact,
        "all insertions": {"records": 2, "found": 0.5, "covered": 0.5} | exact,
        "phages alone": {"records": 1, "found": 1, "covered": 1} | exact,
        "prokaryotes alone": {
            "megabases": pytest.approx(megabases, abs=1e-4),
            "false_a_megabase": pytest.approx(1 / megabases, abs=1e-3),
            "false_a_genome": pytest.approx(4 / megabases, abs=1e-3),
        },
    }
