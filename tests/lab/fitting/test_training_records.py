import gzip
import hashlib

import numpy as np
import pytest

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.lab.fitting.training_records import LeftOut, gather_records, read_groups
from virnuc_dask.sequences.records import read_records

A, B, C, D = "ATGGCTGAACGT", "ATGTTTCCCGGA", "ATGAAACGTTAC", "GGGGATTACAGG"
GENBANK = f"""LOCUS       G1                        12 bp    DNA     linear   VRL 01-JAN-2020
VERSION     G1.1
FEATURES             Location/Qualifiers
     CDS             2..10
ORIGIN
        1 {D.lower()}
//
"""


def reverse_complement(dna):
    return dna[::-1].translate(str.maketrans("ACGTU", "TGCAA"))


def fasta(**records):
    return "".join(f">{name}\n{dna}\n" for name, dna in records.items())


@pytest.fixture
def gather(tmp_path):
    """Writes the two classes' files and gathers them."""

    def call(virus, other, **options):
        paths = {}
        for name, text in (("virus", virus), ("other", other)):
            paths[name] = tmp_path / name
            paths[name].write_bytes(text if isinstance(text, bytes) else text.encode())
        chosen = [str(paths["virus"])], [str(paths["other"])]
        return gather_records(*chosen, tmp_path / "all.fasta", **options)

    return call


def ids_of(records):
    return [record.id for record in read_records([str(records.fasta)])]


def test_every_format_and_compression_comes_out_as_one_fasta(gather, tmp_path):
    fastq = f"@q1 about\n{A}\n+\n{'I' * len(A)}\n@q2\n{B}\n+\n{'I' * len(B)}\n"
    packed = gzip.compress(fastq.encode())
    records = gather(packed, GENBANK)
    found = [(r.id, r.dna) for r in read_records([str(records.fasta)])]
    assert found == [("q1", A), ("q2", B), ("G1.1", D)]
    assert records.is_virus.tolist() == [True, True, False]
    assert records.length_nt.tolist() == [12, 12, 12] == records.usable_nt.tolist()
    viral, others = records.files
    assert (viral.name, viral.is_virus, viral.is_genbank) == ("virus", True, False)
    assert (viral.records, viral.length_nt) == (2, 24)
    assert viral.sha256 == hashlib.sha256(packed).hexdigest()
    assert (others.records, others.is_genbank) == (1, True)


def test_repeats_and_contradictions_are_left_out_with_their_numbers(gather):
    records = gather(
        fasta(v1=A, v2=reverse_complement(A), v3=B, v4=C.lower(), empty=""),
        fasta(o1=reverse_complement(B), o2=D, o3=D.replace("T", "U"), o4=B),
    )
    assert ids_of(records) == ["v1", "v4", "o2"]
    assert records.is_virus.tolist() == [True, True, False]
    assert records.left_out == LeftOut(empty=1, repeated=2, contradictory=3)


def test_a_class_of_contradictions_only_is_missing(gather):
    with pytest.raises(BadInputError, match=r"no record of virus is left .* in both classes: 2"):
        gather(fasta(v=A), fasta(o=A, p=B))
    with pytest.raises(BadInputError, match="no record of others is left"):
        gather(fasta(v=A), "")


def test_groups_follow_their_records(gather, tmp_path):
    table = tmp_path / "groups.tsv"
    table.write_text("o2\tx\nv1\ty\nv2\ty\nv3\tx\tmore\n\nunused\tz\n")
    groups = read_groups(table)
    records = gather(fasta(v1=A, v2=A, v3=B), fasta(o2=D), groups=groups)
    assert ids_of(records) == ["v1", "v3", "o2"]
    assert records.group.tolist() == [groups["v1"], groups["v3"], groups["o2"]]
    assert groups["v1"] != groups["v3"] == groups["o2"]


def test_a_record_without_a_group_is_named(gather):
    with pytest.raises(UsageError, match="no group for record 'o'"):
        gather(fasta(v=A), fasta(o=B), groups={"v": 0})


@pytest.mark.parametrize(
    ("text", "message"),
    [("a\n", "line 1 has no record id, tab and group"), ("a\tx\na\ty\n", "'a' has two groups")],
)
def test_a_table_of_groups_that_is_none_is_refused(tmp_path, text, message):
    table = tmp_path / "groups.tsv"
    table.write_text(text)
    with pytest.raises(BadInputError, match=message):
        read_groups(table)
    with pytest.raises(BadInputError, match="cannot be read"):
        read_groups(tmp_path / "none.tsv")


def test_coding_spans_follow_their_records(gather):
    second = GENBANK.replace("G1", "G2").replace("2..10", "complement(4..9)")
    virus = GENBANK + GENBANK.replace("G1", "twin") + second.replace(D.lower(), A.lower())
    other = GENBANK.replace(D.lower(), C.lower())
    records = gather(virus, other, cds_only=True)
    assert ids_of(records) == ["G1.1", "G2.1", "G1.1"]
    assert records.usable_nt.tolist() == [9, 6, 9]


def test_cds_only_needs_annotation(gather):
    bare = GENBANK.replace("     CDS             2..10\n", "")
    with pytest.raises(UsageError, match="virus: --cds-only needs GenBank files"):
        gather(fasta(v=A), GENBANK, cds_only=True)
    with pytest.raises(BadInputError, match="other: has no CDS"):
        gather(GENBANK, bare, cds_only=True)


def test_files_that_cannot_be_trained_on_are_refused(tmp_path):
    path = tmp_path / "x.fa"
    path.write_text(fasta(x=A))
    out = tmp_path / "all.fasta"
    with pytest.raises(UsageError, match="no --other file"):
        gather_records([str(path)], [], out)
    with pytest.raises(UsageError, match="given twice"):
        gather_records([str(path)], [str(tmp_path / "." / "x.fa")], out)
    with pytest.raises(UsageError, match="standard input"):
        gather_records(["-"], [str(path)], out)
    with pytest.raises(BadInputError, match=r"none\.fa: no such file"):
        gather_records([str(tmp_path / "none.fa")], [str(path)], out)
    assert not out.exists()


def test_what_is_gathered_does_not_depend_on_when(gather):
    first = gather(fasta(v=A), fasta(o=B)).fasta.read_bytes()
    again = gather(fasta(v=A), fasta(o=B))
    assert again.fasta.read_bytes() == first
    assert np.array_equal(again.length_nt, [12, 12])
