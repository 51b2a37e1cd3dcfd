"""What several tests of the lab draw."""

from collections.abc import Callable

import numpy as np
import pytest


@pytest.fixture(scope="session")
def random_dna() -> Callable[[int, int], str]:
    """DNA of a length, by a seed."""
    return lambda length, seed: "".join(np.random.default_rng(seed).choice(list("ACGT"), length))
