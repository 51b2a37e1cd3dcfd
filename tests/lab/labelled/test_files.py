import gzip
import hashlib
from pathlib import Path

import pytest

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.lab.labelled.files import dna_digest, group_names, read_labelled


@pytest.fixture
def files(tmp_path):
    """Two viral records in one file, three others in two."""
    (tmp_path / "phages.fa").write_text(">a\nAACCC\n>b\nACGTT\n")
    (tmp_path / "bacteria.fasta.gz").write_bytes(gzip.compress(b">a\nTTTTTA\n"))
    (tmp_path / "more.fna").write_text(">c\nGGGTT\n>d\naacccc\n")
    return [str(tmp_path / name) for name in ("phages.fa", "bacteria.fasta.gz", "more.fna")]


def test_records_are_labelled_by_the_file_they_are_in(files):
    labelled = read_labelled(files[:1], files[1:])
    assert labelled.files == tuple(files)
    assert labelled.group_of.tolist() == [0, 0, 1, 2, 2]
    assert labelled.is_virus.tolist() == [True, True, False, False, False]
    bacteria = labelled.groups[1]
    assert (bacteria.name, bacteria.records, bacteria.length_nt) == ("bacteria", 1, 6)
    assert bacteria.sha256 == hashlib.sha256(Path(files[1]).read_bytes()).hexdigest()


def test_dna_in_both_classes_is_found_on_either_strand(files):
    assert read_labelled(files[:1], files[1:]).in_both == ("c",)  # AACCC reversed; not aacccc


@pytest.mark.parametrize("same", ["AACRN", "aacrn", "NYGTT", "NYGUU"])
def test_a_digest_is_that_of_the_dna_not_of_its_spelling(same):
    assert dna_digest(same) == dna_digest("AACRN")
    assert dna_digest("AACYN") != dna_digest("AACRN")


def test_records_without_dna_are_not_the_same(tmp_path):
    for name in ("v.fa", "o.fa"):
        (tmp_path / name).write_text(">a\n\n>b\n" + "ACG" * (name == "v.fa") + "\n")
    assert read_labelled([str(tmp_path / "v.fa")], [str(tmp_path / "o.fa")]).in_both == ()


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["x/phages.fa", "y/hosts.fna.gz"], ["phages", "hosts"]),
        (
            ["virus/test.fa", "other/test.fa.gz", "other/more.fa"],
            ["virus/test", "other/test", "more"],
        ),
        (["x/a.fa", "x/a.fa.gz"], ["a.fa", "a.fa.gz"]),
        (["x/v1.2.fasta", "x/plain"], ["v1.2", "plain"]),
        (["x/\x1b[31m.fa"], ["\ufffd[31m"]),
    ],
)
def test_groups_are_named_by_their_files(given, names):
    assert group_names(given) == names


def test_a_class_without_a_file_is_refused(files):
    with pytest.raises(UsageError, match="no --virus file"):
        read_labelled([], files)
    with pytest.raises(UsageError, match="no --other file"):
        read_labelled(files, [])


def test_a_file_in_both_classes_is_refused(files):
    with pytest.raises(UsageError, match="given twice"):
        read_labelled(files[:1], files)


def test_standard_input_is_refused(files):
    with pytest.raises(UsageError, match="standard input"):
        read_labelled(["-"], files)


def test_a_file_without_records_is_refused(files, tmp_path):
    (tmp_path / "empty.fa").touch()
    with pytest.raises(BadInputError, match=r"empty\.fa: holds no records"):
        read_labelled(files, [str(tmp_path / "empty.fa")])
