"""Inputs as users name them (files, folders, patterns, lists, pairs) → the files to read."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from glob import glob
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.tables.paths import STDIN, hint, reading

Inputs = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A path, a folder, a pattern, ``@`` and a list of paths, ``-``; or several of them."""

Pairs = Sequence[tuple[str | os.PathLike[str], str | os.PathLike[str]]]
"""Two files each: the first mates of all pairs, and the second ones in the same order."""

LONGEST_TEXT = 1000  # letters of a description, or of a sample's name
_COMPRESSED = re.compile(r"\.(gz|bgz|bz2|xz|zst)$", re.IGNORECASE)
_SEQUENCES = re.compile(r"\.(fa|fas|fasta|fna|ffn|fsa|fq|fastq|bam|cram)$", re.IGNORECASE)
_MATE = re.compile(r"[._-]+R?$", re.IGNORECASE)  # before the number of a mate


class Source(NamedTuple):
    """What is read as one: a file, or two files of mates."""

    paths: tuple[str, ...]
    sample: str
    paired: bool | None = None  # whether neighbours are mates; None: where a BAM's flags say so

    def mark(self, *, alone: bool) -> tuple[object, ...]:
        """What decides the record table besides the bytes of all files: where each ends, too."""
        sizes = [] if alone else [Path(path).stat().st_size for path in self.paths if path != STDIN]
        return (len(self.paths), *sizes, self.sample, self.paired)


@dataclass(frozen=True)
class Given:
    """The files that were asked for, in order, each of them there and once."""

    sources: tuple[Source, ...]
    lists: tuple[str, ...] = ()  # files that named them
    shared: tuple[str, ...] = ()  # names that several files have, and no list gave

    @property
    def paths(self) -> tuple[str, ...]:
        """All files of sequences."""
        return tuple(chain.from_iterable(source.paths for source in self.sources))

    def warnings(self) -> Iterator[str]:
        """What the user should know of them."""
        if self.shared:
            yield (
                f"several files have the sample name {', '.join(self.shared[:5])}"
                f"{' …' if len(self.shared) > 5 else ''}: `sample` does not tell them apart. "
                "Give names in a list, @FILE: a path, a tab and a name a line."
            )


def given_inputs(inputs: Inputs, reads: Pairs = (), paired: bool | None = None) -> Given:
    """What ``inputs`` and the pairs of files ``reads`` stand for.

    Raises
    ------
    UsageError
        If there is none, or a file, or standard input, is given twice.
    BadInputError
        If one is no file that can be opened, or a pattern or a folder has none.
    """
    several = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    names = [os.fspath(name) for name in several]
    found = [each for name in names for each in _expanded(name)]
    sources = [Source((path,), sample or sample_of(path), paired) for path, sample in found]
    unnamed = Counter(sample_of(path) for path, sample in found if not sample)
    for pair in reads:
        one, two = (os.fspath(name) for name in pair)
        sources.append(Source((one, two), sample_of(one, two), True))
    unnamed.update(source.sample for source in sources[len(found) :])
    if not sources:
        raise UsageError("no input: give FASTA, FASTQ or BAM files, or pairs of them (--reads).")
    shared = tuple(sorted(name for name, count in unnamed.items() if count > 1))
    given = Given(tuple(sources), tuple(name[1:] for name in names if name.startswith("@")), shared)
    _refuse_repeated(given.paths)
    return given


def sample_of(path: str, mate: str | None = None) -> str:
    """A file's name without folders and endings; of two files of mates what both begin with."""
    stem = _SEQUENCES.sub("", _COMPRESSED.sub("", Path(path).name)) or path
    if mate is not None:
        both = os.path.commonprefix([stem, sample_of(mate)])  # noqa: RUF071  # letters are meant
        stem = _MATE.sub("", both) or stem
    return one_line(stem)


def one_line(text: str) -> str:
    """``text`` on one line: what moves a cursor or hides letters is a blank; cut where too long."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text.strip()[:LONGEST_TEXT]


def _expanded(name: str) -> Iterator[tuple[str, str]]:
    """Files and, where a list gives them, the names of their samples."""
    if not name.startswith("@"):
        yield from ((path, "") for path in _files(name))
        return
    listed = Path(name[1:])
    with reading(listed):
        _require_there(name[1:])
        lines = listed.read_text("utf-8-sig", "surrogateescape").splitlines()
    entries = [(place, *line.partition("\t")[::2]) for place, line in enumerate(lines, 1) if line]
    for place, path, sample in entries:
        try:
            for file in _files(str(listed.parent / path)):
                _require_there(file)
                yield file, one_line(sample)
        except BadInputError as error:
            raise BadInputError(f"{listed}, line {place}: {error}") from error
    if not entries:
        raise BadInputError(f"{listed}: names no files; write a path a line.")


def _files(name: str) -> list[str]:
    """The file of this name; those of a folder, or of a pattern, sorted."""
    if _is_folder(name):
        with reading(name):
            files = sorted(entry.path for entry in os.scandir(name) if _holds_sequences(entry))
        if not files:
            raise BadInputError(
                f"{name}: a folder without sequence files (.fasta, .fastq, .bam and such, also "
                "compressed); name the files themselves."
            )
        return files
    if not any(letter in name for letter in "*?[") or os.path.lexists(name):
        return [name]
    # Path's own begins at a folder, and gives other names than those that were asked for.
    files = sorted(path for path in glob(name, recursive=True) if not _is_folder(path))  # noqa: PTH207
    if not files:
        raise BadInputError(f"{name}: no file matches this pattern.")
    return files


def _is_folder(name: str) -> bool:
    with suppress(OSError, ValueError):
        return Path(name).is_dir()
    return False  # whoever reads it will tell


def _holds_sequences(entry: os.DirEntry[str]) -> bool:
    is_named = _SEQUENCES.search(_COMPRESSED.sub("", entry.name)) is not None
    return is_named and not entry.name.startswith(".") and not entry.is_dir()


def _refuse_repeated(paths: Sequence[str]) -> None:
    seen: dict[tuple[int, int], str] = {}
    for name in paths:
        identity = _require_there(name)
        if (earlier := seen.get(identity)) is None:
            seen[identity] = name
        elif STDIN in (earlier, name):
            raise UsageError("standard input is given twice; it can be read once.")
        else:
            same = "is given twice" if earlier == name else f"is the same file as {earlier}"
            raise UsageError(f"{name}: {same}; its records would count twice.")


def _require_there(name: str) -> tuple[int, int]:
    """Device and number of a file that is there, so that it is known by all its names."""
    with reading(name):
        try:
            state = os.fstat(0) if name == STDIN else Path(name).stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadInputError(f"{name}: no such file.{hint(name)}") from error
    if stat.S_ISDIR(state.st_mode):
        raise BadInputError(f"{name}: is a folder; name a file.")
    return state.st_dev, state.st_ino
