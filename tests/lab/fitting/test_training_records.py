import pytest

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.lab.fitting.training_records import gather_records, read_groups
from virnuc_dask.sequences.records import read_records

A, B, C, D = "ATGGCTGAACGT", "ATGTTTCCCGGA", "ATGAAACGTTAC", "GGGGATTACAGG"


def reverse_complement(dna):
    return dna[::-1].translate(str.maketrans("ACGTU", "TGCAA"))


def fasta(**records):
    return "".join(f">{name}\n{dna}\n" for name, dna in records.items())


@pytest.fixture
def gather(tmp_path):
    """Writes the two classes' files and gathers them."""

    def call(virus, other, groups=None):
        for name, text in (("virus", virus), ("other", other)):
            (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        chosen = [str(tmp_path / "virus")], [str(tmp_path / "other")]
        return gather_records(*chosen, tmp_path / "all.fasta", groups)

    return call


def ids_of(records):
    return [record.id for record in read_records([str(records.fasta)])]


def test_repeats_and_contradictions_are_left_out_with_their_numbers(gather):
    records = gather(
        fasta(v1=A, v2=reverse_complement(A), v3=B, v4=C.lower(), empty=""),
        fasta(o1=reverse_complement(B), o2=D, o3=D.replace("T", "U"), o4=B),
    )
    assert ids_of(records) == ["v1", "v4", "o2"]
    assert records.is_virus.tolist() == [True, True, False]
    assert records.left_out == {"empty": 1, "repeated": 2, "contradictory": 3}


def test_groups_follow_their_records(gather, tmp_path):
    table = tmp_path / "groups.tsv"
    table.write_text("o2\tx\nv1\ty\nv2\ty\nv3\tx\tmore\n\nunused\tz\n")
    groups = read_groups(table)
    records = gather(fasta(v1=A, v2=A, v3=B), fasta(o2=D), groups)
    assert ids_of(records) == ["v1", "v3", "o2"]
    assert records.group.tolist() == [groups["v1"], groups["v3"], groups["o2"]]
    assert groups["v1"] != groups["v3"] == groups["o2"]
    with pytest.raises(UsageError, match="no group for record 'o'"):
        gather(fasta(v=A), fasta(o=B), {"v": 0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n", "line 1 has no record id, tab and group"),
        ("a\tx\na\ty\n", "'a' has two groups"),
        (None, "cannot be read"),
    ],
)
def test_a_table_of_groups_that_is_none_is_refused(tmp_path, text, message):
    table = tmp_path / "groups.tsv"
    if text is not None:
        table.write_text(text)
    with pytest.raises(BadInputError, match=message):
        read_groups(table)
