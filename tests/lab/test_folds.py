import numpy as np

from virnuc_dask.lab.genomes import Genome
from virnuc_dask.lab.recipe import SplitSettings
from virnuc_dask.lab.splits.folds import NEW_SPECIES, fold_of, folds_of

SETTINGS = SplitSettings()


def random_dna(length, seed):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def genome(record, group, dna="ACGT" * 30, kind="phage"):
    return Genome(record, kind, group, "somewhere", 0, dna)


def group_to_train_on(kind="phage"):
    names = (f"group {number}" for number in range(100))
    return next(name for name in names if fold_of(f"{name}|{kind}", SETTINGS) >= 0)


def test_a_group_stays_together_but_not_with_its_namesakes_of_another_class():
    genomes = [
        genome(f"r{n}", f"g{n % 40}", kind=k) for n in range(80) for k in ("phage", "plasmid")
    ]
    folds = folds_of(genomes, SplitSettings(genomes=100))
    by_group = {}
    for one, fold in zip(genomes, folds, strict=True):
        assert by_group.setdefault((one.kind, one.group), fold) == fold
    assert any(by_group["phage", f"g{n}"] != by_group["plasmid", f"g{n}"] for n in range(40))


def test_a_species_unlike_the_others_of_its_group_is_held_out_with_all_its_records():
    group = group_to_train_on()
    same = random_dna(4_000, 1)
    parts = [random_dna(3_000, seed) for seed in (2, 3)]
    alike = [genome("A1.1", group, same), genome("B1.1", group, same)]
    new = [genome(f"C1.1:{n}-{n + 1}", group, dna) for n, dna in enumerate(parts)]
    folds = folds_of([*alike, *new], SETTINGS)
    assert folds[2:] == [NEW_SPECIES, NEW_SPECIES]
    assert NEW_SPECIES not in folds[:2]
    # None where all resemble each other, or are few.
    assert min(folds_of([genome(f"{n}.1", group, same) for n in "ABCD"], SETTINGS)) >= 0
    assert min(folds_of([alike[0], new[0]], SETTINGS)) >= 0
