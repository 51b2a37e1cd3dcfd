import random
import subprocess
import sys
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_dask.sequences import fast_genes
from virnuc_dask.sequences.fast_genes import GeneModels
from virnuc_dask.sequences.genes import START_TYPES, Genes, gene_caller

REPRESSOR = (37226, 37940)  # cI of lambda, on the reverse strand


@pytest.fixture(scope="module")
def fast():
    return gene_caller("fast", None)


@pytest.fixture(scope="module")
def found(fast, demo):
    return fast.find(demo)


@pytest.fixture(scope="module")
def known(caller, demo):
    return caller.find(demo)


def ends(genes: Genes) -> dict[tuple[int, int, int], int]:
    """(sequence, 3' end, strand) → row."""
    three = np.where(genes.strand > 0, genes.end, genes.start)
    keys = zip(genes.sequence.tolist(), three.tolist(), genes.strand.tolist(), strict=True)
    return {key: row for row, key in enumerate(keys)}


def assert_equal(one: Genes, two: Genes) -> None:
    for field in fields(Genes):
        assert np.array_equal(getattr(one, field.name), getattr(two, field.name)), field.name


def test_its_stops_are_those_of_pyrodigal(found, known):
    # The demo's species are not among those that it learnt from.
    ours, theirs = ends(found), ends(known)
    both = ours.keys() & theirs.keys()
    assert len(both) > 0.95 * len(ours)
    assert len(both) > 0.92 * len(theirs)
    starts = [found.start[ours[k]] == known.start[theirs[k]] for k in both]
    ends_ = [found.end[ours[k]] == known.end[theirs[k]] for k in both]
    assert np.mean(np.array(starts) & np.array(ends_)) > 0.88


@pytest.mark.parametrize(
    ("column", "least"), [("coding_score", 0.97), ("start_score", 0.6), ("type_score", 0.7)]
)
def test_its_scores_are_in_the_units_of_pyrodigal(found, known, column, least):
    ours, theirs = ends(found), ends(known)
    both = sorted(ours.keys() & theirs.keys())
    x = getattr(known, column)[[theirs[k] for k in both]]
    y = getattr(found, column)[[ours[k] for k in both]]
    assert np.corrcoef(x, y)[0, 1] > least
    assert abs(x.mean() - y.mean()) < 0.15 * x.std() + 1
    assert ((found.confidence >= 0.5) & (found.confidence <= 1)).all()
    assert 0.95 < found.confidence.mean() < 1


def test_a_gene_known_by_name_is_where_it_is_known_to_be(found):
    row = ends(found)[0, REPRESSOR[0], -1]
    assert (found.start[row], found.end[row]) == REPRESSOR
    assert found.peptides[row].startswith("MSTKKKPLTQEQLEDARRLKAIYEKKKNELG")
    assert START_TYPES[found.start_type[row]] == "ATG"
    assert set(found.translation_table.tolist()) == {11}


def test_genes_are_whole_codons_without_a_stop_inside(found):
    for dna, peptide in zip(found.dna, found.peptides, strict=True):
        assert len(dna) % 3 == 0
        assert len(dna) - 3 * len(peptide) in (0, 3)
        assert "*" not in peptide
    assert (np.array(list(map(len, found.dna))) == found.end - found.start).all()


def test_a_gene_that_an_end_cuts_is_partial_there(fast, demo):
    first, last = REPRESSOR
    inside = fast.find([demo[0][first + 100 : last - 50]])
    assert len(inside) == 1
    assert (inside.strand[0], inside.partial_left[0], inside.partial_right[0]) == (-1, True, True)
    assert START_TYPES[inside.start_type[0]] == "edge"
    left = fast.find([demo[0][first + 100 : last + 60]])
    right = fast.find([demo[0][first - 40 : last - 50]])
    assert (left.partial_left[0], left.partial_right[0]) == (True, False)
    assert (right.partial_left[-1], right.partial_right[-1]) == (False, True)


def test_the_other_strand_has_the_same_genes(fast, demo):
    turned = [dna.translate(str.maketrans("ACGT", "TGCA"))[::-1] for dna in demo[:3]]
    one, two = fast.find(demo[:3]), fast.find(turned)
    length = np.array([len(dna) for dna in demo[:3]])[two.sequence]
    again = zip(two.sequence, length - two.end, length - two.start, -two.strand, strict=True)
    assert sorted(again) == sorted(zip(one.sequence, one.start, one.end, one.strand, strict=True))


def test_what_is_found_does_not_depend_on_threads_neighbours_or_case(fast, demo, found):
    assert_equal(fast.find([dna.lower() for dna in demo], threads=3), found)
    rng = random.Random(1)
    pieces = [dna[at : at + 700] for dna in demo for at in range(0, len(dna), 5000)]
    together = fast.find(pieces)
    for row in rng.sample(range(len(pieces)), 20):
        alone = fast.find([pieces[row]])
        of_row = together.take(np.flatnonzero(together.sequence == row))
        alone.sequence[:] = row
        assert_equal(alone, of_row)


@settings(max_examples=60)
@given(st.lists(st.text("ACGTN", max_size=400), max_size=5))
def test_any_sequence_is_read(sequences):
    genes = gene_caller("fast", None).find(sequences)
    for row in range(len(genes)):
        dna = sequences[genes.sequence[row]]
        assert 0 <= genes.start[row] < genes.end[row] <= len(dna)
        assert genes.end[row] - genes.start[row] >= 60


def test_genes_overlap_by_sixty_nt_at_most(found):
    for row in range(1, len(found)):
        if found.sequence[row] == found.sequence[row - 1]:
            assert found.end[row - 1] - found.start[row] <= 60
            assert found.start[row] > found.start[row - 1]


def test_the_path_is_the_best_one_by_trying_all():
    rng = random.Random(2)
    link = [0.1, 0.5, -1.0]
    for _ in range(50):
        spans = sorted(
            (start + rng.randrange(60, 250), start) for start in rng.sample(range(600), 8)
        )
        end, start = [e for e, _ in spans], [s for _, s in spans]
        strand = [rng.choice((1, -1)) for _ in spans]
        score = [rng.uniform(-2, 4) for _ in spans]
        path = fast_genes._best_path(start, end, strand, score, link)
        best = max(worth(rows_of(n), start, end, strand, score, link) for n in range(1 << 8))
        assert worth(path, start, end, strand, score, link) == pytest.approx(max(best, 0))


def rows_of(number: int) -> list[int]:
    return [row for row in range(8) if number >> row & 1]


def worth(rows, start, end, strand, score, link) -> float:
    total = sum(score[row] for row in rows)
    for one, two in pairwise(rows):
        overlap = end[one] - start[two]
        if overlap > 60 or start[one] >= start[two] or end[one] >= end[two]:
            return float("-inf")
        if overlap > -150:
            total += link[1] if strand[one] == strand[two] else link[2]
            total -= link[0] * max(0, overlap - 4)
    return total


def test_the_models_are_small_and_read_once():
    assert GeneModels.load() is GeneModels.load()
    assert Path(fast_genes.__file__).with_name(fast_genes.MODELS).stat().st_size < 200_000


def test_it_needs_no_pyrodigal():
    program = (
        "import sys; from virnuc_dask.sequences.genes import gene_caller;"
        "gene_caller('fast').find(['ACGT' * 300]); print('pyrodigal' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
