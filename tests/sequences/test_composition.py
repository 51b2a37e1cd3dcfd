import random

import pytest

from virnuc_dask.sequences import bases
from virnuc_dask.sequences.bases import Composition

LETTERS = "ACGTacgtNnRYKMSWBDHVrykmswbdhv-."


@pytest.mark.parametrize("batch", [1, 7, 1 << 18])
def test_gc_is_the_share_among_bases_wherever_batches_end(monkeypatch, batch):
    monkeypatch.setattr(bases, "_BATCH_NT", batch)
    rng = random.Random(3)
    sequences = ["".join(rng.choices(LETTERS, k=k)) for k in (0, 1, 5, 40, 0, 13, 8)]
    sequences += ["", "NNN", "GgCc", "aT"]
    composition = Composition()
    for sequence in sequences:
        composition.add(sequence)
    expected = [share(sequence) for sequence in sequences]
    assert composition.shares().to_pylist() == expected
    composition.add("GA")
    assert composition.shares().to_pylist() == [0.5], "told once"
    assert len(composition.shares()) == 0


def share(sequence: str) -> float | None:
    count = {letter: sequence.upper().count(letter) for letter in "ACGT"}
    known = sum(count.values())
    return (count["G"] + count["C"]) / known if known else None
