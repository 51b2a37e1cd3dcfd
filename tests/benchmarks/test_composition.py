from collections import Counter

import numpy as np
import pytest
from composition import CANONICAL, WIDTH, GeneWindows, composition, train_composition

from virnuc_dask.encoders.ngrams import RESIDUES
from virnuc_dask.pretraining.genes import TRAIN, VALIDATION
from virnuc_dask.quality.figures import auroc
from virnuc_dask.sequences.frames import find_frames

NO_FRAME = "TAATTAATTAA" * 9


def reverse_complement(dna):
    return dna.translate(str.maketrans("ACGT", "TGCA"))[::-1]


def slowly(chunk):
    """The same values, counted one by one."""
    chunk = chunk.upper()
    fours = [chunk[at : at + 4] for at in range(len(chunk) - 3)]
    counted = Counter(min(f, reverse_complement(f)) for f in fours if set(f) <= set("ACGT"))
    values = [counted[four] / max(counted.total(), 1) for four in CANONICAL]
    peptides = [Counter(frame.peptide) for frame in find_frames([chunk])[0]]
    if not peptides:
        return np.full(WIDTH, np.nan)
    return np.array(
        values
        + [sum(p[residue] / p.total() for p in peptides) / len(peptides) for residue in RESIDUES]
    )


def random_chunks(count, length, seed=0):
    letters = np.random.default_rng(seed).choice(list("ACGT"), (count, length))
    return ["".join(row) for row in letters]


def test_there_are_136_four_mers_and_twenty_residues():
    assert (len(CANONICAL), WIDTH) == (136, 156)


def test_composition_is_what_counting_one_by_one_gives(material):
    chunks = [gene.dna[start : start + 500] for gene in material.parts[TRAIN] for start in (0, 7)]
    chunks += random_chunks(40, 60)
    chunks += ["acgtnnACGTAC" * 10, "N" * 60, "ATG", "A", NO_FRAME, "GATTACA" * 43]
    expected = np.array([slowly(chunk) for chunk in chunks])
    assert 0 < np.isnan(expected[:, 0]).sum() < len(chunks)
    np.testing.assert_allclose(composition(chunks), expected, atol=1e-12)


def test_blocks_do_not_change_the_composition(monkeypatch):
    chunks = random_chunks(50, 60)
    expected = composition(chunks)
    monkeypatch.setattr("composition._BLOCK", 7)
    np.testing.assert_array_equal(composition(chunks), expected)


def test_both_strands_have_the_same_composition():
    chunks = random_chunks(30, 60)
    reverse = [reverse_complement(chunk) for chunk in chunks]
    np.testing.assert_allclose(composition(chunks), composition(reverse), atol=1e-12)


def test_no_chunks_have_no_composition():
    assert composition([]).shape == (0, WIDTH)


def test_windows_are_pieces_of_genes_with_their_labels(material):
    genes = material.parts[TRAIN]
    windows, is_virus = GeneWindows(genes).dna(40, np.random.default_rng(0))
    assert len({len(window) for window in windows}) == 1
    assert 0.4 < is_virus.mean() < 0.6
    for window, label in zip(windows, is_virus, strict=True):
        assert {gene.is_virus for gene in genes if window in gene.dna} == {label}


@pytest.fixture(scope="module")
def classifier(material):
    genes = material.parts[VALIDATION]
    chunks = [gene.dna[:300] for gene in genes], np.array([gene.is_virus for gene in genes])
    return train_composition(GeneWindows(material.parts[TRAIN]), {300: chunks}, 600, seed=1)


def test_gradient_boosting_learns_composition(classifier, material):
    genes = material.parts[VALIDATION]
    scores = classifier.score([gene.dna[:300] for gene in genes])
    found = auroc(scores, np.array([gene.is_virus for gene in genes]))
    assert found > 0.8
    assert found == pytest.approx(classifier.validation_auroc[300], abs=1e-6)
    assert 1 <= classifier.trees <= 400


def test_scores_are_those_of_the_trees_that_validation_chose(material):
    chunks = [gene.dna[:300] for gene in material.parts[VALIDATION]]
    by_chance = np.random.default_rng(0).random(len(chunks)) < 0.5  # no two steps rank alike
    source = GeneWindows(material.parts[TRAIN])
    trained = train_composition(source, {300: (chunks, by_chance)}, 600, seed=1)
    found = auroc(trained.score(chunks), by_chance)
    assert found == pytest.approx(trained.validation_auroc[300], abs=1e-6)


def test_a_chunk_without_a_frame_has_no_score(classifier, material):
    scores = classifier.score([material.parts[TRAIN][0].dna[:300], NO_FRAME])
    assert np.isnan(scores).tolist() == [False, True]
