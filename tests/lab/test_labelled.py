import gzip

import pytest

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.lab.labelled import group_names, read_labelled


@pytest.fixture
def files(tmp_path):
    """Two viral records in one file, three others in two."""
    (tmp_path / "phages.fa").write_text(">a\nAACCC\n>b\nACGTT\n")
    (tmp_path / "bacteria.fasta.gz").write_bytes(gzip.compress(b">a\nTTTTTA\n"))
    (tmp_path / "more.fna").write_text(">c\nGGGTT\n>d\naacccc\n")
    return [str(tmp_path / name) for name in ("phages.fa", "bacteria.fasta.gz", "more.fna")]


def test_dna_in_both_classes_is_told_by_the_dna_not_by_its_spelling(tmp_path):
    others = ["AACRN", "aacrn", "NYGTT", "NYGUU", "AACYN", ""]
    for name, records in (("v.fa", ["AACRN", ""]), ("o.fa", others)):
        (tmp_path / name).write_text("".join(f">a\n{dna}\n" for dna in records))
    labelled = read_labelled([str(tmp_path / "v.fa")], [str(tmp_path / "o.fa")])
    assert labelled.in_both.tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["x/phages.fa", "y/hosts.fna.gz"], ["phages", "hosts"]),
        (
            ["virus/test.fa", "other/test.fa.gz", "other/more.fa"],
            ["virus/test.fa", "other/test.fa.gz", "more"],
        ),
        (["x/a.fa", "x/a.fa.gz"], ["x/a.fa", "x/a.fa.gz"]),
        (["x/v1.2.fasta", "x/plain"], ["v1.2", "plain"]),
        (["x/\x1b[31m.fa"], ["\ufffd[31m"]),
    ],
)
def test_groups_are_named_by_their_files(given, names):
    assert group_names(given) == names


@pytest.mark.parametrize(
    ("virus", "other", "error", "message"),
    [
        ([], ["more.fna"], UsageError, "no --virus file"),
        (["more.fna"], [], UsageError, "no --other file"),
        (["more.fna"], ["phages.fa", "./more.fna"], UsageError, "given twice"),
        (["-"], ["more.fna"], UsageError, "standard input"),
        (["more.fna"], ["none.fa"], BadInputError, r"none\.fa: no such file"),
        (["more.fna"], ["empty.fa"], BadInputError, r"empty\.fa: holds no records"),
    ],
)
@pytest.mark.usefixtures("files")
def test_files_that_cannot_be_labelled_are_refused(
    tmp_path, monkeypatch, virus, other, error, message
):
    (tmp_path / "empty.fa").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        read_labelled(virus, other)
