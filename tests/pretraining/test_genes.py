import gzip
import hashlib
import random
from pathlib import Path

import pytest

from virnuc_dask.errors import BadInputError
from virnuc_dask.pretraining.genes import (
    GENOME,
    KINDS,
    OTHER,
    PARTS,
    TEST,
    TRAIN,
    TRANSCRIPT,
    VALIDATION,
    VIRUS,
    Exclusions,
    Gene,
    count_genes,
    genome_of,
    kind_of,
    part_of,
    read_genes,
)

SHARES = {TEST: 0.06, VALIDATION: 0.04}


def random_dna(rng, length=300):
    return "".join(rng.choices("ACGT", k=length))


def write_fasta(path: Path, genes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f">{name}\n{dna}\n" for name, dna in genes), encoding="ascii")
    return path


def read(markers, labelled=None, exclusions=None, most_per_genome=1_000):
    return read_genes(markers, labelled or {}, exclusions or Exclusions(), most_per_genome)


@pytest.fixture(scope="module")
def genes():
    rng = random.Random(0)
    viral = [(f"GeneID:{100 + 30 * i}", random_dna(rng)) for i in range(100)]
    others = [
        (f"gi|{1000 + 7 * i}|ref|NC_00{i // 10}.1|:{i}-{i + 300}", random_dna(rng))
        for i in range(100)
    ]
    transcripts = [(f"gi|{9000 + 7 * i}|ref|XM_00{i}.1|", random_dna(rng)) for i in range(20)]
    return viral + others + transcripts


@pytest.fixture
def markers(tmp_path, genes):
    return write_fasta(tmp_path / "markers.fasta", genes)


def names_of(gene_set) -> list[str]:
    return [gene.name for gene in gene_set.genes]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("GeneID:921702", VIRUS),
        ("gi|345004010|ref|NC_015954.1|:c1336247-1335993", OTHER),
        ("gi|484049076|ref|NZ_KB897741.1|:c44868-44758", OTHER),
        ("gi|149234693|ref|XM_001523176.1|", TRANSCRIPT),
        ("gi|149234693|ref|NM_001523176.1|", TRANSCRIPT),
        ("gi|149234693|gb|", OTHER),
        ("NC_001234.1:1-300", None),
        ("anything", None),
    ],
)
def test_the_name_tells_the_label(name, kind):
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("name", "genome"),
    [
        ("GeneID:921702", "GeneID:18434"),
        ("GeneID:921749", "GeneID:18434"),
        ("GeneID:921750", "GeneID:18435"),
        ("gi|1|ref|NC_015954.1|:c1336247-1335993", "NC_015954"),
        ("gi|1|ref|NZ_ABCD01000012.1|:5-304", "ABCD01"),
        ("gi|1|gb|ABCD01000013.1|:5-304", "ABCD01"),
        ("gi|1|gb|ABCD02000013.1|:5-304", "ABCD02"),
        ("gi|1|ref|NZ_KB897741.1|:c44868-44758", "NZ_KB897741"),
        ("gi|1|ref|XM_001523176.1|", "XM:3046"),
        ("gi|1|ref|NM_001523499.2|", "XM:3046"),
        ("gi|1|ref|XM_001523500.1|", "XM:3047"),
        ("gi|17", "gi|17"),
        ("lcl|phage_cds_1", "lcl|phage_cds_1"),
    ],
)
def test_the_name_tells_the_genome(name, genome):
    assert genome_of(name) == genome


def test_reads_labels_and_genomes_and_hashes_the_files(tmp_path, genes, markers):
    write_fasta(markers, [*genes, ("NC_001234.1", "ACGT" * 50)])
    rng = random.Random(1)
    own = {
        kind: [write_fasta(tmp_path / f"{kind}.fa", [(f"own_{kind}", random_dna(rng).lower())])]
        for kind in (VIRUS, OTHER)
    }
    gene_set = read(markers, own)
    assert [(gene.name, gene.dna) for gene in gene_set.genes[:-2]] == genes
    kinds = [VIRUS] * 100 + [OTHER] * 100 + [TRANSCRIPT] * 20 + [VIRUS, OTHER]
    assert [gene.kind for gene in gene_set.genes] == kinds
    assert [gene.is_virus for gene in gene_set.genes] == [kind == VIRUS for kind in kinds]
    assert [gene.genome for gene in gene_set.genes[-2:]] == ["own_virus", "own_other"]
    assert all(gene.dna.isupper() for gene in gene_set.genes)
    assert gene_set.left_out["unlabelled"] == 1
    files = [markers, own[VIRUS][0], own[OTHER][0]]
    assert list(gene_set.sha256.items()) == [
        (path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files
    ]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_excluded_name_never_appears(tmp_path, genes, markers, pack):
    excluded = {name for name, _ in genes[::3]}
    names = tmp_path / "names.txt"
    names.write_bytes(pack("\n".join(excluded).encode("ascii")))
    gene_set = read(markers, exclusions=Exclusions.read(names, []))
    assert not excluded & set(names_of(gene_set))
    assert gene_set.left_out["excluded by name"] == len(excluded)
    assert len(gene_set.genes) == len(genes) - len(excluded)


def test_a_gene_that_shares_a_31_mer_with_an_excluded_sequence_never_appears(
    tmp_path, genes, markers
):
    complement = str.maketrans("ACGT", "TGCA")
    exclude = write_fasta(
        tmp_path / "demo.fasta",
        [
            ("a", "T" * 50 + genes[3][1][40:71]),
            ("b", genes[150][1].translate(complement)[::-1]),
            ("c", "T" * 50 + genes[7][1][40:70]),
        ],
    )
    gene_set = read(markers, exclusions=Exclusions.read(None, [exclude]))
    missing = {name for name, _ in genes} - set(names_of(gene_set))
    assert missing == {genes[3][0], genes[150][0]}
    assert gene_set.left_out["similar to an excluded sequence"] == 2


def test_copies_are_used_once_and_contradictions_not_at_all(genes, markers):
    copy = ("GeneID:999999", genes[5][1].lower())
    contradiction = ("GeneID:888888", genes[120][1])
    write_fasta(markers, [*genes, copy, contradiction])
    gene_set = read(markers)
    assert names_of(gene_set) == [name for name, _ in genes if name != genes[120][0]]
    assert gene_set.left_out["copy"] == 3


def test_of_a_large_genome_of_others_some_genes_are_kept_always_the_same(tmp_path, genes, markers):
    gene_set = read(markers, most_per_genome=4)
    kept = names_of(gene_set)
    assert kept == [name for name, _ in genes if name in set(kept)]
    assert count_genes({TRAIN: gene_set.genes})[TRAIN] == {
        VIRUS: 100,
        TRANSCRIPT: 20,
        OTHER: 40,
        GENOME: 0,
    }
    genomes = [gene.genome for gene in gene_set.genes if gene.kind == OTHER]
    assert {genomes.count(genome) for genome in genomes} == {4}
    assert gene_set.left_out["more than enough of its genome"] == 60
    turned = write_fasta(tmp_path / "turned.fasta", genes[::-1])
    assert set(names_of(read(turned, most_per_genome=4))) == set(kept)
    assert set(names_of(read(markers, most_per_genome=3))) < set(kept)


def test_counts_tell_every_side_and_kind():
    genes = [Gene("a", "ACGT", VIRUS, "a"), Gene("b", "ACGT", GENOME, "b")]
    counts = count_genes({TRAIN: genes, TEST: genes[:1]})
    assert list(counts) == list(PARTS)
    assert counts[TRAIN] == {VIRUS: 1, TRANSCRIPT: 0, OTHER: 0, GENOME: 1}
    assert counts[VALIDATION] == dict.fromkeys(KINDS, 0)


def test_the_split_has_its_shares_and_is_a_fixed_one():
    genomes = [f"GeneID:{block}" for block in range(20_000)]
    parts = [part_of(genome, SHARES) for genome in genomes]
    for part, share in SHARES.items():
        assert parts.count(part) / len(parts) == pytest.approx(share, abs=0.005)
    # Published figures hold for these sides: they may never change.
    first = {part: genomes[parts.index(part)] for part in (TEST, VALIDATION)}
    assert first == {TEST: "GeneID:8", VALIDATION: "GeneID:56"}


def test_larger_shares_take_genomes_from_training_only():
    genomes = [f"NC_{number}" for number in range(5_000)]
    small = [part_of(genome, SHARES) for genome in genomes]
    large = [part_of(genome, {TEST: 0.06, VALIDATION: 0.2}) for genome in genomes]
    changes = {(a, b) for a, b in zip(small, large, strict=True) if a != b}
    assert changes == {(TRAIN, VALIDATION)}


def test_a_file_with_one_label_only_is_refused(genes, markers):
    write_fasta(markers, genes[:100])
    with pytest.raises(BadInputError, match=r"markers\.fasta: needs viral genes and others"):
        read(markers)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInputError, match=r"none\.fasta: cannot be read"):
        read(tmp_path / "none.fasta")


def test_two_files_of_one_name_are_refused(tmp_path, genes):
    paths = [
        write_fasta(tmp_path / folder / "genes.fa", part)
        for folder, part in (("a", genes[:9]), ("b", genes[100:109]))
    ]
    with pytest.raises(BadInputError, match=r"b/genes\.fa: another file has the same name"):
        read(None, {VIRUS: paths[:1], OTHER: paths[1:]})


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot be read"), ("phäge".encode(), "plain ASCII")]
)
def test_an_unreadable_list_of_names_is_named(tmp_path, content, message):
    names = tmp_path / "names.txt"
    if content is not None:
        names.write_bytes(content)
    with pytest.raises(BadInputError, match=rf"names\.txt: .*{message}"):
        Exclusions.read(names, [])


def test_a_missing_file_of_excluded_sequences_is_named(tmp_path):
    with pytest.raises(BadInputError, match=r"none\.fasta: cannot be read"):
        Exclusions.read(None, [tmp_path / "none.fasta"])
