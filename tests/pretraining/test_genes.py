import hashlib
import random
from pathlib import Path

import pytest

from virnuc_dask.errors import BadInputError
from virnuc_dask.pretraining.genes import (
    OTHER,
    TEST,
    TRAIN,
    TRANSCRIPT,
    VALIDATION,
    VIRUS,
    Exclusions,
    kind_of,
    part_of,
    read_genes,
)


def random_dna(rng, length=300):
    return "".join(rng.choices("ACGT", k=length))


def write_fasta(path: Path, genes):
    path.write_text("".join(f">{name}\n{dna}\n" for name, dna in genes), encoding="ascii")
    return path


@pytest.fixture
def genes():
    rng = random.Random(0)
    viral = [(f"GeneID:{100 + 30 * i}", random_dna(rng)) for i in range(100)]
    others = [(f"gi|{1000 + 7 * i}|ref|NC_1|:{i}-{i + 300}", random_dna(rng)) for i in range(100)]
    transcripts = [(f"gi|{9000 + 7 * i}|ref|XM_{i}.1|", random_dna(rng)) for i in range(20)]
    return viral + others + transcripts


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("GeneID:921702", VIRUS),
        ("gi|345004010|ref|NC_015954.1|:c1336247-1335993", OTHER),
        ("gi|484049076|ref|NZ_KB897741.1|:c44868-44758", OTHER),
        ("gi|149234693|ref|XM_001523176.1|", TRANSCRIPT),
        ("gi|149234693|ref|NM_001523176.1|", TRANSCRIPT),
        ("NC_001234.1:1-300", None),
        ("anything", None),
    ],
)
def test_the_name_tells_the_label(name, kind):
    assert kind_of(name) == kind


def test_reads_labels_and_hashes_the_file(tmp_path, genes):
    markers = write_fasta(tmp_path / "markers.fasta", [*genes, ("NC_001234.1", "ACGT" * 50)])
    gene_set = read_genes(markers, Exclusions())
    assert [(gene.name, gene.dna) for gene in gene_set.genes] == genes
    assert [gene.kind for gene in gene_set.genes] == [VIRUS] * 100 + [OTHER] * 100 + [
        TRANSCRIPT
    ] * 20
    assert gene_set.left_out["unlabelled"] == 1
    assert gene_set.sha256 == hashlib.sha256(markers.read_bytes()).hexdigest()


def test_an_excluded_name_never_appears(tmp_path, genes):
    markers = write_fasta(tmp_path / "markers.fasta", genes)
    excluded = {name for name, _ in genes[::3]}
    names = tmp_path / "names.txt"
    names.write_text("\n".join(excluded), encoding="ascii")
    gene_set = read_genes(markers, Exclusions.read(names, []))
    assert not excluded & {gene.name for gene in gene_set.genes}
    assert gene_set.left_out["excluded by name"] == len(excluded)
    assert len(gene_set.genes) == len(genes) - len(excluded)


def test_a_gene_similar_to_an_excluded_sequence_never_appears(tmp_path, genes):
    markers = write_fasta(tmp_path / "markers.fasta", genes)
    complement = str.maketrans("ACGT", "TGCA")
    demo = write_fasta(
        tmp_path / "demo.fasta",
        [("a", "T" * 50 + genes[3][1][40:90]), ("b", genes[150][1].translate(complement)[::-1])],
    )
    gene_set = read_genes(markers, Exclusions.read(None, [demo]))
    kept = {gene.name for gene in gene_set.genes}
    assert {name for name, _ in genes} - kept == {genes[3][0], genes[150][0]}


def test_copies_are_used_once_and_contradictions_not_at_all(tmp_path, genes):
    copy = ("GeneID:999999", genes[5][1].lower())
    contradiction = ("GeneID:888888", genes[120][1])
    markers = write_fasta(tmp_path / "markers.fasta", [*genes, copy, contradiction])
    gene_set = read_genes(markers, Exclusions())
    names = [gene.name for gene in gene_set.genes]
    assert names == [name for name, _ in genes if name != genes[120][0]]
    assert gene_set.left_out["copy"] == 3


def test_every_gene_is_on_one_side_with_its_neighbours(tmp_path, genes):
    gene_set = read_genes(write_fasta(tmp_path / "markers.fasta", genes), Exclusions())
    parts = {part: gene_set.part(part) for part in (TRAIN, VALIDATION, TEST)}
    assert sum(map(len, parts.values())) == len(genes)
    sequences = [{gene.dna for gene in part} for part in parts.values()]
    assert len(set.union(*sequences)) == sum(map(len, sequences))
    for block in range(100):
        assert len({part_of(f"GeneID:{50 * block + i}") for i in range(50)}) == 1
        assert len({part_of(f"gi|{50 * block + i}|ref|NC_{i}") for i in range(50)}) == 1


def test_the_split_is_a_fixed_one():
    parts = [part_of(f"GeneID:{50 * block}") for block in range(10_000)]
    shares = {part: parts.count(part) / 10_000 for part in (TEST, VALIDATION)}
    assert shares == {
        TEST: pytest.approx(0.10, abs=0.01),
        VALIDATION: pytest.approx(0.05, abs=0.01),
    }
    assert parts[:12] == [part_of(f"GeneID:{50 * block + 49}") for block in range(12)]


def test_a_file_with_one_label_only_is_refused(tmp_path, genes):
    markers = write_fasta(tmp_path / "markers.fasta", genes[:100])
    with pytest.raises(BadInputError, match="GeneID"):
        read_genes(markers, Exclusions())
