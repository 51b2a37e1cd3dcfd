import numpy as np

from virnuc_dask.lab import noise

WINDOWS = np.random.default_rng(1).choice(4, (6, 3_000), p=[0.4, 0.1, 0.1, 0.4]).astype(np.uint8)


def test_each_kind_is_what_it_is_called():
    rng = np.random.default_rng(2)
    bases, codons = noise.shuffled_bases(WINDOWS, rng), noise.shuffled_codons(WINDOWS, rng)
    assert (np.sort(bases) == np.sort(WINDOWS)).all()
    for window, made in zip(WINDOWS, codons, strict=True):
        assert sorted(map(tuple, window.reshape(-1, 3))) == sorted(map(tuple, made.reshape(-1, 3)))
    assert (bases != WINDOWS).any()
    assert (codons != WINDOWS).any()
    (chain,) = noise.same_dinucleotides(np.tile(np.arange(4, dtype=np.uint8), 500)[None], rng)
    assert (chain[1:] == (chain[:-1] + 1) % 4).mean() > 0.99
    gc = np.isin(noise.random_bases(WINDOWS, rng), (1, 2)).mean(1)
    assert 0.15 < gc.min() < gc.max() < 0.85
    repeated = noise.repeats(WINDOWS, rng)
    same = [max((row[u:] == row[:-u]).mean() for u in range(1, 7)) for row in repeated]
    assert min(same) > 0.85
