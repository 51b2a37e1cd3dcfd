import numpy as np

from virnuc_dask.lab.genomes import Exclusions
from virnuc_dask.lab.markers import TEST_BIT, marker_table, read_markers
from virnuc_dask.lab.recipe import MarkerSettings
from virnuc_dask.lab.splits.kmers import KmerIndex

SETTINGS = MarkerSettings(others=1.0, transcripts=1.0)
CODONS = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT"]
OPEN = [codon for codon in CODONS if codon not in ("TAA", "TAG", "TGA")]


def gene(codons, seed):
    return "ATG" + "".join(np.random.default_rng(seed).choice(OPEN, codons - 1)) + "TAA"


def read(path, entries, settings=SETTINGS, names=(), like=()):
    path.write_text("".join(f">{name} x\n{dna}\n" for name, dna in entries.items()))
    return read_markers(path, settings, Exclusions(frozenset(names), KmerIndex.of(like, 24), 3))


ENTRIES = {
    "GeneID:101": gene(50, 1),
    "GeneID:149": gene(50, 2) + "A",  # a base too many
    "gi|1|ref|NZ_QAHA01000003.1|:1-90": gene(40, 3),
    "gi|2|ref|XM_000123.4|:1-90": gene(40, 4),
    "gi|3|ref|NC_015954.1|:1-90": gene(40, 5),
    "gi|4|ref|NC_015954.1|:1-90": gene(20, 5),  # short
    "gi|5|ref|NC_015954.1|:1-90": gene(30, 6) + gene(30, 7),  # a stop within
    "NC_000001": gene(60, 8),
}


def test_markers_are_open_frames_whose_kind_and_group_their_names_tell(tmp_path):
    found = read(tmp_path / "m.fasta", ENTRIES)
    assert [(one.kind, one.group, len(one.peptide)) for one in found] == [
        ("virus", "GeneID:2", 50),
        ("virus", "GeneID:2", 50),
        ("other", "QAHA01", 40),
        ("transcript", "XM:0", 40),
        ("other", "NC_015954", 40),
    ]
    assert all(len(one.dna) == 3 * len(one.peptide) + 3 for one in found)


def test_those_that_may_not_be_used_are_left_out(tmp_path):
    found = read(tmp_path / "m.fasta", ENTRIES, names=["GeneID:101"], like=[gene(40, 3)])
    assert [one.kind for one in found] == ["virus", "transcript", "other"]


def test_a_marker_that_shares_words_with_viruses_of_a_fold_says_so(tmp_path):
    found = read(tmp_path / "m.fasta", ENTRIES)
    first, second, third = (one.peptide for one in found[:3])
    viral = [
        (0, [first[10:20], second[10:19]]),  # three words of the first, two of the second
        (1, []),
        (2, [third[:20], second]),
        (TEST_BIT, [third]),
    ]
    similar = marker_table(found, viral, SETTINGS)["similar_to"].to_pylist()
    assert similar == [0b1, 0b100, 0b100 | 1 << TEST_BIT, 0, 0]
