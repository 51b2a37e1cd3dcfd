import math
from dataclasses import FrozenInstanceError

import pytest

from virnuc_dask.modelsets.calibration import Calibration


def test_none_is_one_half():
    assert Calibration.of(None) == Calibration(0.5, "none")


def test_reads_what_a_model_set_says():
    content = {"contig_threshold": 0.25, "method": "equal error rates"}
    assert Calibration.of(content) == Calibration(0.25, "equal error rates")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"contig_threshold": 0.5, "method": "m", "chunk_threshold": 0.5}, "unknown chunk_thresh"),
        ({"contig_threshold": 0.5}, "no method"),
        ({"method": "m"}, "no contig_threshold"),
        ({}, "no contig_threshold, method"),
        ({"contig_threshold": "0.5", "method": "m"}, "not a number"),
        ({"contig_threshold": True, "method": "m"}, "not a number"),
        ({"contig_threshold": 0.5, "method": None}, "not a text"),
        ([0.5, "m"], "not an object"),
    ],
)
def test_refuses_what_it_does_not_know(content, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Calibration.of(content)


@pytest.mark.parametrize("threshold", [0, 1, -0.1, 1.5, math.nan, math.inf, -math.inf])
def test_the_threshold_lies_between_0_and_1(threshold):
    with pytest.raises((TypeError, ValueError), match="between 0 and 1"):
        Calibration.of({"contig_threshold": threshold, "method": "m"})
    with pytest.raises((TypeError, ValueError), match="between 0 and 1"):
        Calibration(threshold, "m")


def test_is_frozen():
    calibration = Calibration()
    with pytest.raises(FrozenInstanceError):
        calibration.contig_threshold = 0.1
