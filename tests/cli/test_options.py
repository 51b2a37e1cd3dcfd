"""Options that take paths, and those that take several values."""

from pathlib import Path

import pytest

from virnuc_dask.lab import evaluate as evaluation


@pytest.fixture
def evaluated(command, monkeypatch, tmp_path):
    """What the command hands to `evaluate`."""
    seen: dict = {}

    def instead(sets, virus, other, *_, **__):
        seen.update(sets=sets, virus=virus, other=other)
        return {"warnings": [], "evaluations": []}

    monkeypatch.setattr(evaluation, "evaluate", instead)
    monkeypatch.setattr(evaluation, "summary_lines", lambda _: [])
    monkeypatch.chdir(tmp_path)

    def call(words: str) -> tuple[int, str]:
        code, _, err = command("evaluate", "-o", "out", *words.split())
        return code, err

    call.seen = seen
    return call


@pytest.mark.parametrize(
    "words",
    [
        "mini own --virus v.fa w.fa --other o.fa p.fa",
        "--virus v.fa w.fa --other o.fa p.fa mini own",
        "--virus v.fa w.fa mini own --other o.fa p.fa",
        "--virus v.fa w.fa --other o.fa p.fa -- mini own",
    ],
)
def test_model_sets_stand_before_or_after_the_files(evaluated, words):
    Path("own").mkdir()
    Path("own/modelset.json").touch()
    assert evaluated(words)[0] == 0
    expected = {"sets": ("mini", "own"), "virus": ("v.fa", "w.fa"), "other": ("o.fa", "p.fa")}
    assert evaluated.seen == expected


def test_a_set_that_is_none_is_not_swallowed_silently(evaluated):
    code, err = evaluated("--virus v.fa --other o.fa mimi")
    assert (code, evaluated.seen) == (2, {})
    assert "no model set: name a folder" in err
    assert "counts as a file of theirs" in err


def test_the_nearest_name_is_told(command):
    code, _, err = command("run", "a.fa", "--resum")
    assert (code, "--resume" in err) == (2, True)
    code, _, err = command("evalaute", "mini")
    assert (code, "Did you mean 'evaluate'?" in err) == (2, True)


LONG = "x" * 300
PLACES = [
    (("run", LONG, "-o", "out"), 3),
    (("run", "in.fa", "-o", LONG), 2),
    (("run", "in.fa", "-o", "in.fa/out"), 2),
    (("run", "in.fa", "-o", "s3://bucket/out"), 2),
    (("run", "in.fa", "-o", "out", "--config", LONG), 3),
    (("run", "in.fa", "-o", "out", "--model", LONG), 4),
    (("run", "in.fa", "-o", "out", "--scheduler-file", LONG), 3),
    (("predict", LONG), 2),
    (("evaluate", "mini", "--virus", LONG, "--other", "in.fa", "-o", "out"), 3),
    (("evaluate", "mini", "--virus", "in.fa", "--other", "b.fa", "-o", LONG), 2),
    (("train", "--virus", "in.fa", "--other", LONG, "-o", "out"), 3),
    (("train", "--virus", "in.fa", "--other", "b.fa", "-o", LONG), 2),
    (("train", "--virus", "in.fa", "--other", "b.fa", "-o", "out", "--groups", LONG), 3),
    (("pretrain", LONG), 3),
    (("models", "show", LONG), 3),
    (("bench", "--json", LONG), 2),
    (("bench", "--json", "none/figures.json"), 2),
]


@pytest.mark.parametrize(("words", "expected"), PLACES)
def test_a_path_that_cannot_be_ends_every_command_in_one_line(
    command, tmp_path, monkeypatch, words, expected
):
    monkeypatch.chdir(tmp_path)
    for name in ("in.fa", "b.fa"):
        Path(name).write_text(">a\nACGT\n")
    code, out, err = command(*words)
    assert (code, out) == (expected, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"in.fa", "b.fa"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("run", "locked/in.fa", "-o", "open/out"), 3),
        (("run", "secret.fa", "-o", "open/out"), 3),
        (("run", "in.fa", "-o", "locked/out"), 2),
        (("run", "in.fa", "-o", "locked"), 2),
        (("run", "in.fa", "-o", "open/out", "--model", "locked/set"), 4),
        (("evaluate", "mini", "--virus", "locked/in.fa", "--other", "in.fa", "-o", "open/e"), 3),
        (("bench", "--json", "figures.json"), 2),
    ],
)
def test_a_folder_without_a_right_to_it_is_told_in_one_line(
    command, tmp_path, monkeypatch, words, code
):
    monkeypatch.chdir(tmp_path)
    for name in ("in.fa", "secret.fa"):
        Path(name).write_text(">a\nACGT\n")
    denied = {"locked", "secret.fa", "."}
    looked_at = Path.stat

    def stat(path: Path, **way):
        if path.parts[:1] == ("locked",) and len(path.parts) > 1:
            raise PermissionError(13, "Permission denied", str(path))
        return looked_at(path, **way)

    Path("locked").mkdir()
    Path("open").mkdir()
    monkeypatch.setattr(Path, "stat", stat)
    monkeypatch.setattr("os.access", lambda path, _: str(path) not in denied)
    found, _, err = command(*words)
    assert (found, err.count("\n")) == (code, 1)
    assert "Permission denied" in err


@pytest.mark.parametrize("content", ["{}", "notes", '{"benchmark": "other"}', "[]"])
def test_bench_replaces_no_file_but_a_report_of_its_own(command, tmp_path, monkeypatch, content):
    file = tmp_path / "figures.json"
    file.write_text(content)
    monkeypatch.setattr("virnuc_dask.lab.bench.bench", lambda *_: pytest.fail("it measured"))
    code, _, err = command("bench", "--json", file)
    assert (code, file.read_text()) == (2, content)
    assert "figures.json: is no report of bench" in err
