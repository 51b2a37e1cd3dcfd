from dataclasses import replace

from virnuc_dask.pretraining.frame_source import WindowFrames
from virnuc_dask.pretraining.genes import OTHER, VIRUS, Gene

GENES = [Gene("a", "ATGGCT" * 40, VIRUS, "a"), Gene("b", "ATGCCC" * 40, OTHER, "b")]


def test_a_source_is_known_by_the_dna_that_it_draws_from():
    first, again = (WindowFrames(GENES, GENES, windows=4).fingerprint for _ in range(2))
    changed = [replace(GENES[0], dna=GENES[0].dna[:-1] + "A"), GENES[1]]
    assert first == again
    assert first != WindowFrames(changed, GENES, windows=4).fingerprint
    assert first != WindowFrames(GENES, GENES, windows=6).fingerprint
