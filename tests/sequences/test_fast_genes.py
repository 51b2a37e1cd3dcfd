import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_dask.sequences import fast_genes
from virnuc_dask.sequences.genes import START_TYPES, Genes, gene_caller

REPRESSOR = (37226, 37940)  # cI of lambda, on the reverse strand


@pytest.fixture(scope="module")
def fast():
    return gene_caller("fast", None)


@pytest.fixture(scope="module")
def found(fast, demo):
    return fast.find(demo)


def ends(genes: Genes) -> dict[tuple[int, int, int], int]:
    """(sequence, 3' end, strand) → row."""
    three = np.where(genes.strand > 0, genes.end, genes.start)
    keys = zip(genes.sequence.tolist(), three.tolist(), genes.strand.tolist(), strict=True)
    return {key: row for row, key in enumerate(keys)}


def test_its_genes_and_scores_are_pyrodigals(caller, demo, found):
    # The demo's species are not among those that it learnt from.
    known = caller.find(demo)
    ours, theirs = ends(found), ends(known)
    both = sorted(ours.keys() & theirs.keys())
    assert len(both) > 0.95 * len(ours)
    assert len(both) > 0.92 * len(theirs)
    mine, its = found.take([ours[key] for key in both]), known.take([theirs[key] for key in both])
    assert np.mean((mine.start == its.start) & (mine.end == its.end)) > 0.88
    assert (mine.end - mine.start == np.array(list(map(len, mine.dna)))).all()
    assert not any("*" in peptide for peptide in mine.peptides)
    for column, least in (("coding_score", 0.97), ("start_score", 0.6), ("type_score", 0.7)):
        x, y = getattr(its, column), getattr(mine, column)
        assert np.corrcoef(x, y)[0, 1] > least
        assert abs(x.mean() - y.mean()) < 0.15 * x.std() + 1
    assert ((found.confidence >= 0.5) & (found.confidence <= 1)).all()
    assert 0.95 < found.confidence.mean() < 1


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


def test_threads_neighbours_and_case_change_nothing(fast, demo, found, assert_same):
    assert_same(fast.find([dna.lower() for dna in demo], threads=3), found)
    rng = random.Random(1)
    pieces = [dna[at : at + 700] for dna in demo for at in range(0, len(dna), 5000)]
    together = fast.find(pieces)
    for row in rng.sample(range(len(pieces)), 20):
        alone = fast.find([pieces[row]])
        of_row = together.take(np.flatnonzero(together.sequence == row))
        alone.sequence[:] = row
        assert_same(alone, of_row)


@settings(max_examples=60)
@given(st.lists(st.text("ACGTN", max_size=400), max_size=5))
def test_any_sequence_is_read(sequences):
    genes = gene_caller("fast", None).find(sequences)
    for row in range(len(genes)):
        dna = sequences[genes.sequence[row]]
        assert 0 <= genes.start[row] < genes.end[row] <= len(dna)
        assert genes.end[row] - genes.start[row] >= 60


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
