"""What users give as input, and the files that it stands for."""

import os
from pathlib import Path

import pytest

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.tables.inputs import LONGEST_TEXT, Source, given_inputs, one_line, sample_of


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.fa"
    path.write_text(">a\nACGT\n")
    return path


@pytest.fixture
def folder(file) -> Path:
    """A folder of sequence files and others."""
    place = file.parent / "reads"
    (place / "deeper.fa").mkdir(parents=True)
    for name in ("b.fastq.gz", "a.FNA", "c.bam", "notes.txt", ".hidden.fa", "d.fa.zst"):
        (place / name).write_text("")
    return place


def paths_of(*inputs: object) -> list[str]:
    return list(given_inputs(inputs).paths)


def test_one_path_or_several_are_taken(file):
    assert given_inputs(file) == given_inputs(str(file)) == given_inputs([file])
    assert given_inputs(file).sources == (Source((str(file),), "a"),)
    assert given_inputs(["-", "a.fa"]).paths == ("-", "a.fa")
    assert given_inputs(["-"]).sources[0].sample == "-"
    with pytest.raises(UsageError, match="no input"):
        given_inputs([])


def test_nothing_is_counted_twice_whatever_it_is_called(file):
    os.link(file, "twin.fa")
    Path("link.fa").symlink_to(file)
    Path("list.txt").write_text("a.fa\n")
    for name in ("a.fa", "./a.fa", "twin.fa", "link.fa", ".", "a.*", "@list.txt"):
        with pytest.raises(UsageError, match=r"given twice|same file as .*a\.fa"):
            given_inputs([file, name])
    with pytest.raises(UsageError, match="given twice"):
        given_inputs([], [("a.fa", "a.fa")])
    for names in (["-", "-"], ["-", "/dev/stdin"]):
        with pytest.raises(UsageError, match="standard input is given twice"):
            given_inputs(names)


def test_a_folder_is_its_sequence_files_sorted(folder):
    found = ["reads/a.FNA", "reads/b.fastq.gz", "reads/c.bam", "reads/d.fa.zst"]
    assert paths_of("reads") == found
    assert [source.sample for source in given_inputs("reads").sources] == ["a", "b", "c", "d"]


def test_a_pattern_is_its_files_sorted_and_a_file_of_that_name_is_itself(folder):
    assert paths_of("reads/[ab].*") == ["reads/a.FNA", "reads/b.fastq.gz"]
    assert paths_of("**/*.bam", "a.?a") == ["reads/c.bam", "a.fa"]
    (folder / "a[1].fa").write_text("")
    assert paths_of("reads/a[1].fa") == ["reads/a[1].fa"]


def test_a_list_names_files_beside_it_and_perhaps_their_samples(folder):
    (folder / "list.txt").write_text("b.fastq.gz\tgut \n\nc.bam\n../a.fa\tsoil\tx\n[a].*\tgut\n")
    given = given_inputs(["@reads/list.txt"])
    assert [(Path(s.paths[0]).name, s.sample) for s in given.sources] == [
        ("b.fastq.gz", "gut"),
        ("c.bam", "c"),
        ("a.fa", "soil x"),
        ("a.FNA", "gut"),
    ]
    assert given.lists == ("reads/list.txt",)
    assert not list(given.warnings())


def test_names_that_nobody_gave_and_several_files_have_are_told(folder):
    (folder / "a.fasta").write_text("")
    (said,) = given_inputs(["a.fa", "reads/a.FNA", "reads/a.fasta", "reads/c.bam"]).warnings()
    assert "the sample name a:" in said
    assert "@FILE" in said


@pytest.mark.parametrize(
    ("one", "two", "sample"),
    [
        ("S1_L001_R1_001.fastq.gz", "S1_L001_R2_001.fastq.gz", "S1_L001"),
        ("x/SRR1_1.fq", "y/SRR1_2.fq", "SRR1"),
        ("a.r1.fa.bz2", "a.r2.fa.bz2", "a"),
        ("gut-1.fastq", "gut-2.fastq", "gut"),
        ("one.fq", "two.fq", "one"),
        ("1.fq", "2.fq", "1"),
    ],
)
def test_the_sample_of_a_pair_is_what_both_names_begin_with(one, two, sample):
    assert sample_of(one, two) == sample


def test_pairs_come_after_the_inputs(file):
    for name in ("s_R1.fq", "s_R2.fq"):
        Path(name).write_text("")
    pair = Source(("s_R1.fq", "s_R2.fq"), "s", paired=True)
    assert given_inputs((), [("s_R1.fq", "s_R2.fq")]).sources == (pair,)
    assert given_inputs(file, [("s_R1.fq", "s_R2.fq")], paired=False).sources[1] == pair


def test_a_text_for_tables_is_on_one_line_and_not_endless():
    assert one_line(" a\tb\x1b[2J\u202ec\r\nd\ud800 ") == "a b [2J c  d"
    assert one_line("<b>λ</b>") == "<b>λ</b>"
    assert len(one_line("x" * 5000)) == LONGEST_TEXT


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("none.fa", "none.fa: no such file.$"),
        ("a.fa/b.fa", "a.fa/b.fa: no such file.$"),
        ("s3://bucket/a.fa", "an address: download it first"),
        ("https://x.org/a.fa", "an address: download it first"),
        ("@files.txt", "^files.txt: no such file.$"),
        ("@wrong.txt", "^wrong.txt, line 2: none.fa: no such file.$"),
        ("@empty.txt", "names no files; write a path a line"),
        ("@a\0b", "cannot be read: embedded null byte"),
        ("empty", "empty: a folder without sequence files"),
        ("*.bam", r"^\*.bam: no file matches this pattern.$"),
        ("x" * 300, "cannot be read: File name too long"),
        ("a\0b", "cannot be read: embedded null byte"),
        ("\ud800", "cannot be read: the file system cannot hold such a name"),
    ],
)
def test_what_cannot_be_an_input_is_told_with_what_to_do(file, name, told):
    Path("empty").mkdir()
    Path("wrong.txt").write_text("a.fa\nnone.fa\n")
    Path("empty.txt").write_text("\n")
    with pytest.raises(BadInputError, match=told):
        given_inputs([name])
