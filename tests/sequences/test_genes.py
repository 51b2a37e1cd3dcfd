import random
from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyrodigal_gv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virnuc_dask.errors import BadSettingError, ModelSetError
from virnuc_dask.sequences.gene_paths import best_path
from virnuc_dask.sequences.genes import START_TYPES, Genes, gene_caller
from virnuc_dask.sequences.records import read_records

DEMO = Path(__file__).parents[1] / "data" / "demo.fasta.gz"
FIRST, LAST = 37226, 37940  # cI of lambda, on the reverse strand
CALLERS = {name: gene_caller(name) for name in ("pyrodigal-gv", "fast")}


@pytest.fixture(scope="module")
def demo() -> list[str]:
    """The demo's DNA; lambda is the first."""
    return [record.dna for record in read_records([str(DEMO)])]


@pytest.fixture(scope="module")
def of_lambda(demo):
    return CALLERS["pyrodigal-gv"].find(demo[:1])


@pytest.fixture(params=CALLERS)
def caller(request):
    return CALLERS[request.param]


def assert_same(one: Genes, two: Genes) -> None:
    for field in fields(Genes):
        assert np.array_equal(getattr(one, field.name), getattr(two, field.name)), field.name


def rows(genes: Genes) -> list[tuple[int, int, int]]:
    return list(zip(genes.start.tolist(), genes.end.tolist(), genes.strand.tolist(), strict=True))


def test_a_gene_known_by_name_is_found_and_described(of_lambda):
    assert len(of_lambda) == 62
    assert set(of_lambda.model.tolist()) == {20}, "Escherichia coli's"
    row = rows(of_lambda).index((FIRST, LAST, -1))
    assert of_lambda.peptides[row].startswith("MSTKKKPLTQEQLEDARRLKAIYEKKKNELGLSQESVADKMGMGQS")
    assert (of_lambda.dna[row][:3], of_lambda.dna[row][-3:]) == ("ATG", "TGA")
    assert START_TYPES[of_lambda.start_type[row]] == "ATG"
    assert 0.999 < of_lambda.confidence[row] <= 1
    assert of_lambda.coding_score[row] > 40


def test_a_gene_that_an_end_cuts_is_partial_there(caller, demo):
    whole, inside, left, right = (
        caller.find([demo[0][first:last]])
        for first, last in (
            (FIRST - 40, LAST + 40),
            (FIRST + 100, LAST - 50),
            (FIRST + 100, LAST + 60),
            (FIRST - 40, LAST - 50),
        )
    )
    assert (40, 40 + LAST - FIRST, -1) in rows(whole)
    assert len(inside) == 1
    assert (inside.strand[0], inside.partial_left[0], inside.partial_right[0]) == (-1, True, True)
    assert START_TYPES[inside.start_type[0]] == "edge"
    assert len(inside.peptides[0]) * 3 == inside.end[0] - inside.start[0]
    assert (left.partial_left[0], left.partial_right[0]) == (True, False)
    assert START_TYPES[left.start_type[0]] == "ATG", "its begin is the right end"
    assert (right.partial_left[-1], right.partial_right[-1]) == (False, True)


def test_a_gap_ends_genes_and_a_few_unknown_letters_do_not(caller, demo):
    middle = (FIRST + LAST) // 2
    around = demo[0][FIRST - 40 : middle], demo[0][middle : LAST + 40]
    few = caller.find(["RGR".join(around)])
    assert (40, 43 + LAST - FIRST, -1) in rows(few)
    assert few.peptides[0].count("X") in (1, 2)
    assert "YCY" in few.dna[0]
    gap = caller.find([("N" * 60).join(around)])
    assert gap.partial_right.tolist() == [True, False]
    assert gap.partial_left.tolist() == [False, True]
    assert gap.start[1] >= 40 + middle - FIRST + 60
    assert not any("X" in peptide for peptide in gap.peptides)


def test_threads_neighbours_and_case_change_nothing(caller, demo):
    pieces = [dna[at : at + 900] for dna in demo for at in range(0, len(dna), 9000)]
    together = caller.find([piece.lower() for piece in pieces], threads=3)
    for row in range(0, len(pieces), 5):
        alone = caller.find([pieces[row]])
        alone.sequence[:] = row
        assert_same(alone, together.take(np.flatnonzero(together.sequence == row)))


@pytest.mark.parametrize(
    "sequences", [[], [""], ["ACG"], ["A" * 19], ["ACGT" * 8], ["N" * 400], ["RYK-" * 90]]
)
def test_there_may_be_no_gene(caller, sequences):
    genes = caller.find(sequences, threads=2)
    assert (len(genes), genes.dna, genes.peptides) == (0, [], [])
    assert genes.confidence.dtype == np.float32


def test_dna_and_peptides_are_pyrodigals_own(demo):
    # Ends that fall anywhere in genes, of any phase.
    pieces = [dna[at : at + 1000 + at % 7] for dna in demo for at in range(1, len(dna), 9001)]
    genes, row = CALLERS["pyrodigal-gv"].find(pieces), 0
    finder = pyrodigal_gv.ViralGeneFinder(meta=True)
    for number, piece in enumerate(pieces):
        for gene in sorted(finder.find_genes(piece), key=lambda g: (g.begin, g.end, g.strand)):
            assert (genes.sequence[row], genes.start[row]) == (number, gene.begin - 1)
            assert genes.dna[row] == gene.sequence()
            assert genes.peptides[row] == gene.translate(include_stop=False)
            assert len(genes.dna[row]) == genes.end[row] - genes.start[row]
            assert len(genes.dna[row]) % 3 == 0
            row += 1
    assert row == len(genes) > 50
    assert {11} < set(genes.translation_table.tolist()), "other codes too"


def test_models_are_chosen_by_number_or_name(demo, of_lambda):
    by_number = gene_caller("pyrodigal-gv", [57, 20])
    by_name = gene_caller("pyrodigal-gv", ["Escherichia_coli_UMN026", "Gut_phage_code_11a"])
    assert_same(by_number.find(demo[:1]), of_lambda)
    assert_same(by_name.find(demo[:1]), of_lambda)
    other = gene_caller("pyrodigal-gv", [57]).find(demo[:1])
    assert set(other.model.tolist()) == {57}


@pytest.mark.parametrize("models", [[62], ["Escherichia"], [20, "no such"], []])
def test_an_unknown_model_is_refused_with_those_that_there_are(models):
    with pytest.raises(ModelSetError, match=r"no gene model .*20 Escherichia_coli_UMN026"):
        gene_caller("pyrodigal-gv", models)


def test_an_unknown_caller_is_refused():
    with pytest.raises(BadSettingError, match="gene caller 'prodigal' is unknown"):
        gene_caller("prodigal", None)


def ends(genes: Genes) -> dict[tuple[int, int, int], int]:
    """(sequence, 3' end, strand) → row."""
    three = np.where(genes.strand > 0, genes.end, genes.start)
    keys = zip(genes.sequence.tolist(), three.tolist(), genes.strand.tolist(), strict=True)
    return {key: row for row, key in enumerate(keys)}


def test_fast_genes_and_scores_are_those_of_pyrodigal(demo):
    # The demo's species are not among those that it learnt from.
    known, found = (each.find(demo) for each in CALLERS.values())
    ours, theirs = ends(found), ends(known)
    both = sorted(ours.keys() & theirs.keys())
    assert len(both) > 0.95 * len(ours)
    assert len(both) > 0.92 * len(theirs)
    mine, its = (
        genes.take(np.array([row[key] for key in both]))
        for genes, row in ((found, ours), (known, theirs))
    )
    assert np.mean((mine.start == its.start) & (mine.end == its.end)) > 0.88
    assert (mine.end - mine.start == np.array(list(map(len, mine.dna)))).all()
    assert not any("*" in peptide for peptide in mine.peptides)
    for column, least in (("coding_score", 0.97), ("start_score", 0.6), ("type_score", 0.7)):
        x, y = getattr(its, column), getattr(mine, column)
        assert np.corrcoef(x, y)[0, 1] > least
        assert abs(x.mean() - y.mean()) < 0.15 * x.std() + 1
    assert ((found.confidence >= 0.5) & (found.confidence <= 1)).all()
    assert 0.95 < found.confidence.mean() < 1


def test_fast_on_the_other_strand_has_the_same_genes(demo):
    fast = CALLERS["fast"]
    turned = [dna.translate(str.maketrans("ACGT", "TGCA"))[::-1] for dna in demo[:3]]
    one, two = fast.find(demo[:3]), fast.find(turned)
    length = np.array([len(dna) for dna in demo[:3]])[two.sequence]
    again = zip(two.sequence, length - two.end, length - two.start, -two.strand, strict=True)
    assert sorted(again) == sorted(zip(one.sequence, one.start, one.end, one.strand, strict=True))


@settings(max_examples=60)
@given(st.lists(st.text("ACGTN", max_size=400), max_size=5))
def test_any_sequence_is_read_fast(sequences):
    genes = CALLERS["fast"].find(sequences)
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
        path = best_path(start, end, strand, score, link)
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
