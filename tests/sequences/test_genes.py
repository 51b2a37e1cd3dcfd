import subprocess
import sys

import numpy as np
import pyrodigal_gv
import pytest

from virnuc_dask.errors import BadSettingError, ModelSetError
from virnuc_dask.sequences.chunks import Pieces
from virnuc_dask.sequences.genes import START_TYPES, Genes, gene_caller, owned

REPRESSOR = (37226, 37940)  # cI of lambda, on the reverse strand


@pytest.fixture(scope="module")
def of_lambda(caller, demo):
    return caller.find(demo[:1])


def rows(genes: Genes) -> list[tuple[int, int, int]]:
    return list(zip(genes.start.tolist(), genes.end.tolist(), genes.strand.tolist(), strict=True))


def test_genes_of_lambda_are_found_on_both_strands(of_lambda):
    assert len(of_lambda) == 62
    assert set(of_lambda.strand.tolist()) == {1, -1}
    assert set(of_lambda.model.tolist()) == {20}, "Escherichia coli's"
    assert set(of_lambda.translation_table.tolist()) == {11}


def test_a_gene_known_by_name_is_where_it_is_known_to_be(of_lambda):
    row = rows(of_lambda).index((*REPRESSOR, -1))
    assert of_lambda.peptides[row].startswith("MSTKKKPLTQEQLEDARRLKAIYEKKKNELGLSQESVADKMGMGQS")
    assert of_lambda.dna[row][:3] == "ATG"
    assert of_lambda.dna[row][-3:] == "TGA"
    assert START_TYPES[of_lambda.start_type[row]] == "ATG"
    assert 0.999 < of_lambda.confidence[row] <= 1
    assert of_lambda.coding_score[row] > 40


def test_dna_and_peptides_are_pyrodigals_own(caller, demo):
    # Ends that fall anywhere in genes, of any phase.
    pieces = [dna[at : at + 1000 + at % 7] for dna in demo for at in range(1, len(dna), 9001)]
    genes, row = caller.find(pieces), 0
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


def test_a_gene_that_an_end_cuts_is_partial_there(caller, demo):
    first, last = REPRESSOR
    lone = caller.find([demo[0][first - 40 : last + 40]])
    inside = caller.find([demo[0][first + 100 : last - 50]])
    assert (40, 40 + last - first, -1) in rows(lone)
    assert len(inside) == 1
    assert (inside.strand[0], inside.partial_left[0], inside.partial_right[0]) == (-1, True, True)
    assert START_TYPES[inside.start_type[0]] == "edge"
    assert len(inside.peptides[0]) * 3 == inside.end[0] - inside.start[0]
    left = caller.find([demo[0][first + 100 : last + 40]])
    right = caller.find([demo[0][first - 40 : last - 50]])
    assert (left.partial_left[0], left.partial_right[0]) == (True, False)
    assert START_TYPES[left.start_type[0]] == "ATG", "its begin is the right end"
    assert (right.partial_left[-1], right.partial_right[-1]) == (False, True)


def test_a_gap_ends_genes_and_a_few_unknown_letters_do_not(caller, demo):
    first, last = REPRESSOR
    middle = (first + last) // 2
    around = demo[0][first - 40 : middle], demo[0][middle : last + 40]
    few = caller.find(["NNN".join(around)])
    assert (40, 43 + last - first, -1) in rows(few)
    assert few.peptides[0].count("X") in (1, 2)
    gap = caller.find([("N" * 60).join(around)])
    assert len(gap) == 2
    assert gap.partial_right.tolist() == [True, False]
    assert gap.partial_left.tolist() == [False, True]
    assert gap.start[1] >= 40 + middle - first + 60
    assert not any("X" in peptide for peptide in gap.peptides)


def test_threads_neighbours_and_case_change_nothing(caller, demo, of_lambda, assert_same):
    one = caller.find(demo[:4])
    two = caller.find([dna.lower() for dna in demo[:4]], threads=3)
    assert_same(one, two)
    assert_same(one.take(np.flatnonzero(one.sequence == 0)), of_lambda)
    assert one.sequence.tolist() == sorted(one.sequence.tolist())


@pytest.mark.parametrize(
    "sequences", [[], [""], ["ACG"], ["A" * 19], ["ACGT" * 8], ["N" * 400], ["RYK-" * 90]]
)
def test_there_may_be_no_gene(caller, sequences):
    genes = caller.find(sequences, threads=2)
    assert len(genes) == 0
    assert (genes.dna, genes.peptides) == ([], [])
    assert genes.confidence.dtype == np.float32


def test_letters_of_another_alphabet_are_complemented(caller, demo):
    first, last = REPRESSOR
    dna = demo[0][first - 40 : last - 30] + "RGR" + demo[0][last - 27 : last + 40]
    gene = caller.find([dna])
    assert gene.dna[0][27:30] == "YCY"
    assert gene.peptides[0][9] == "X"


def test_models_are_chosen_by_number_or_name(demo, of_lambda, assert_same):
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


def test_pyrodigal_is_imported_by_those_who_call_with_it_only():
    program = (
        "import sys; from virnuc_dask.sequences.genes import gene_caller;"
        "gene_caller('fast').find(['ACGT' * 300]); print('pyrodigal' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_an_unknown_caller_is_refused():
    with pytest.raises(BadSettingError, match="gene caller 'prodigal' is unknown"):
        gene_caller("prodigal", None)


def test_genes_called_in_pieces_are_those_of_the_whole_and_each_is_counted_once(demo):
    # Of one species, so that every piece's best model is that of the whole.
    coli = gene_caller("pyrodigal-gv", [20])
    dna = "".join(demo[1:4]) * 3
    pieces = Pieces(40_000, 8_000)
    step = np.arange(pieces.count(len(dna)))
    start, end = pieces.spans(np.full_like(step, len(dna)), step)
    spans = zip(start.tolist(), end.tolist(), strict=True)
    found = coli.find([dna[first:last] for first, last in spans])
    own = found.take(np.flatnonzero(owned(found, pieces, start, end)))
    begin = own.start + start[own.sequence]
    piecewise = list(zip(begin.tolist(), own.end + start[own.sequence], own.strand, strict=True))
    whole = rows(coli.find([dna]))
    assert len(dna) > 500_000
    assert piecewise == sorted(piecewise)
    assert len(set(piecewise)) == len(piecewise)
    # An edge of a piece is 4,000 nt away from its core: none of these genes is longer.
    assert piecewise == whole
    assert own.peptides[100] == coli.find([dna]).peptides[whole.index(piecewise[100])]
