import pytest

from virnuc_dask.lab.labelled import group_names, read_labelled


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
