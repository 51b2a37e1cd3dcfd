"""Model sets on disk: their names, their folders, their checksums."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, WithJsonSchema

from virnuc_dask.checks import build, checked, one_of
from virnuc_dask.encoders.encoder import LARGEST_SIZE, EncoderSpec, Size
from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.calibration import Calibration

FORMAT = 1
MANIFEST = "modelset.json"
CARD = "README.md"
EMBEDDED = ("mini",)
_HERE = Path(__file__).parent
_HASHING_THREADS = 4
_LARGEST_MANIFEST = 1 << 24  # bytes
FRAMES, GENES = "frames", "genes"  # what a model set reads
# What a manifest that is no manifest raises: depth without end among it.
_DAMAGE = (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError)
_ChunkLength = Annotated[int, Field(ge=3, le=LARGEST_SIZE)]
# Whole numbers stay whole: checksums are made of them.
_LENGTH = WithJsonSchema({"type": "number", "minimum": 1})
_SHARE = WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1})
_Length = Annotated[int | float, Field(ge=1), _LENGTH]
_Share = Annotated[int | float, Field(ge=0, le=1), _SHARE]


@checked
class ClassifierSpec:
    """The classifier's file and the width of its hidden layer.

    An ``untrained`` one is of zeros: its model set is there for its encoders.
    """

    file: str
    hidden: Size
    architecture: Annotated[str, one_of("mlp", "untrained")] = "mlp"


@checked
class GenesSpec:
    """How genes are found: the caller, its models, and the long pieces that records are cut into.

    Neighbouring pieces of ``piece_nt`` share ``overlap_nt``, an even number. Records shorter than
    ``shortest_nt`` go by frames.
    """

    caller: str
    models: tuple[int | str, ...] = ()
    piece_nt: Annotated[int, Field(ge=4, le=1 << 26)] = 200_000
    overlap_nt: Annotated[int, Field(ge=2, multiple_of=2)] = 20_000
    shortest_nt: Annotated[int, Field(ge=1)] = 300

    def __post_init__(self) -> None:
        if 2 * self.overlap_nt > self.piece_nt:
            raise ValueError(f"cannot share {self.overlap_nt} nt of {self.piece_nt}: half at most")


@checked
class ContigModelSpec:
    """The contig model's file, what it looks at, and what follows from what it says.

    ``evidence`` holds places in a gene's features, as `ModelSetInfo.feature_dim` counts them; the
    gene's score comes before these. A record is called virus from the probability ``called`` on:
    pairs of a length in nt and a probability, between lengths by their logarithms. It is unsure
    below the reliability ``reliable``.
    """

    file: str
    evidence: tuple[Annotated[int, Field(ge=0)], ...] = ()
    called: Annotated[tuple[tuple[_Length, _Share], ...], Field(min_length=1)] = ((1, 0.5),)
    reliable: _Share = 0.0

    def __post_init__(self) -> None:
        if any(later <= one for (one, _), (later, _) in pairwise(self.called)):
            raise ValueError("needs ascending lengths in called")


class Units(NamedTuple):
    """What records are cut into, and what has a row in the tables, in words for people."""

    parts: str = "chunks"
    scored: str = "frames"


UNITS_OF_GENES = Units("pieces", "genes or frames")


@checked
class ModelSetInfo:
    """The content of a ``modelset.json``.

    ``chunk_lengths`` are those the classifier was trained for, the default first. ``files`` maps
    every file that is loaded to its SHA-256. ``calibration`` is by chunk length, as text. A set
    that reads genes has ``genes`` and a ``contig_model``; its chunk length is that of records that
    go by frames.
    """

    name: str
    version: str
    chunk_lengths: Annotated[tuple[_ChunkLength, ...], Field(min_length=1)]
    nucleotide: EncoderSpec
    peptide: EncoderSpec
    classifier: ClassifierSpec
    licence: str
    training_data: str
    quality: Mapping[str, Any] = Field(default_factory=dict)
    calibration: Mapping[str, Calibration] | None = None
    files: Mapping[str, str] = Field(default_factory=dict)
    reading: Annotated[str, one_of(FRAMES, GENES)] = FRAMES
    genes: GenesSpec | None = None
    contig_model: ContigModelSpec | None = None

    def __post_init__(self) -> None:
        if (self.reading == GENES) != self.reads_genes:
            raise ValueError("says how genes are found if it reads genes, only then")
        if self.reads_genes and (self.contig_model is None or len(self.chunk_lengths) > 1):
            raise ValueError("reads genes: it needs a contig_model, and only one chunk length")
        if max(self.evidence, default=-1) >= self.feature_dim:
            raise ValueError(f"has evidence beyond its {self.feature_dim} features")
        lengths = {str(length) for length in self.chunk_lengths}
        if others := ", ".join((self.calibration or {}).keys() - lengths):
            raise ValueError(f"has a calibration for chunks of {others} nt, which it is not for")

    @property
    def reads_genes(self) -> bool:
        """Whether a row of its tables is a gene, and not a frame."""
        return self.genes is not None

    @property
    def is_trained(self) -> bool:
        """Whether its scores mean anything."""
        return self.classifier.architecture != "untrained"

    @property
    def units(self) -> Units:
        """What people are told that its runs have done."""
        return UNITS_OF_GENES if self.reads_genes else Units()

    @property
    def evidence(self) -> tuple[int, ...]:
        """Features of a gene that its prediction carries along for the contig model."""
        return self.contig_model.evidence if self.contig_model else ()

    @property
    def encoders_checksum(self) -> str:
        """SHA-256 over all that decides the features: both encoders, and how genes are found."""
        return self._checksum(self.nucleotide, self.peptide, self.genes)

    @property
    def checksum(self) -> str:
        """SHA-256 over all that decides the predictions: features, classifier, evidence.

        The contig model is none of it: calls are made from predictions, and never stored.
        """
        evidence = {"evidence": self.evidence} if self.reads_genes else None
        return self._checksum(self.nucleotide, self.peptide, self.genes, self.classifier, evidence)

    @property
    def calls_checksum(self) -> str | None:
        """SHA-256 over the contig model, and what is called by it; None without one."""
        return self._checksum(self.contig_model) if self.contig_model else None

    @property
    def needed_files(self) -> frozenset[str]:
        """Names of all files that are loaded."""
        parts = (self.nucleotide, self.peptide, self.classifier, self.contig_model)
        tokenizers = {spec.tokenizer for spec in (self.nucleotide, self.peptide) if spec.tokenizer}
        return frozenset({part.file for part in parts if part} | tokenizers)

    def _checksum(self, *parts: Any) -> str:
        """SHA-256 over what describes ``parts``, those that are there, and over their files."""
        described = [p if isinstance(p, dict) else _described(p) for p in parts if p is not None]
        names = {part[key] for part in described for key in ("file", "tokenizer") if part.get(key)}
        files = {name: self.files[name] for name in names}
        text = json.dumps([described, files], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def calibration_for(self, chunk_length: int) -> Calibration | None:
        """What the scores of chunks of this length are worth; None where it was not measured."""
        return (self.calibration or {}).get(str(chunk_length))

    @property
    def feature_dim(self) -> int:
        """Values in a frame's features: nucleotide embedding, then peptide embedding."""
        return self.nucleotide.dim + self.peptide.dim


def home() -> Path:
    """Where fetched and added model sets are kept: ``VIRNUC_HOME``, or ``~/.cache/virnuc``."""
    # Not Path.expanduser, which raises where there is no home.
    return Path(os.environ.get("VIRNUC_HOME") or os.path.expanduser("~/.cache/virnuc"))  # noqa: PTH111


def kept() -> Path:
    """The folder in `home` that has a folder for each model set."""
    return home() / "modelsets"


def names() -> list[str]:
    """Model sets that have a name here: embedded ones, then those that are kept."""
    found = (path.parent.name for path in kept().glob(f"*/{MANIFEST}"))
    return [*EMBEDDED, *sorted(name for name in found if name[0] != ".")]


def find(name: str) -> Path:
    """The folder of a model set, called by an embedded one's name, its path, or a kept one's name.

    `ModelSetError` if it is none of these.
    """
    if name in EMBEDDED:
        return _HERE / name
    folders = [Path(name)] + ([kept() / name] if name and Path(name).name == name else [])
    try:
        for folder in folders:
            if (folder / MANIFEST).is_file():
                return folder.resolve()
    except OSError as error:
        raise ModelSetError(f"{name}: cannot be read: {error.strerror}.") from error
    raise ModelSetError(
        f"no model set {name!r}: neither an embedded one ({', '.join(EMBEDDED)}), nor one in "
        f"{kept()}, nor a folder with a {MANIFEST}. `virnuc-dask models fetch` brings the "
        "published ones, `virnuc-dask models import` makes one from checkpoints."
    )


def card_of(name: str) -> str:
    """The card of a model set, in Markdown; nothing where it has none."""
    with suppress(OSError, UnicodeDecodeError):
        return (find(name) / CARD).read_text(encoding="utf-8")
    return ""


def read_info(folder: Path) -> ModelSetInfo:
    """Read and check ``modelset.json`` (not the files it names: see `verify`).

    `ModelSetError` if it is missing, not what this version reads, or names a file elsewhere.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise ModelSetError(f"{path}: too large for a {MANIFEST}; refused.")
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ModelSetError(f"{path}: made for another version of virnuc_dask; update it.")
        info = build(ModelSetInfo, content, "modelset")
        for name in info.files:
            _check_inside(folder, name)
    except FileNotFoundError as error:
        raise ModelSetError(f"{folder}: no {MANIFEST} here, so no model set.") from error
    except _DAMAGE as error:
        raise ModelSetError(f"{path}: damaged or incomplete ({error}).") from error
    if unlisted := sorted(info.needed_files - set(info.files)):
        raise ModelSetError(f"{path}: no checksum for {', '.join(unlisted)}; refused.")
    return info


def verify(folder: Path, info: ModelSetInfo, files: Collection[str] | None = None) -> None:
    """Compare files (default: all) with their SHA-256; errors as of `verified`."""
    with verified(folder, info, files):
        pass


@contextmanager
def verified(
    folder: Path, info: ModelSetInfo, files: Collection[str] | None = None
) -> Iterator[None]:
    """Compare files (default: all) with their SHA-256 while the block reads them.

    Hashing takes as long as reading from a fast disk, a thread a file hides it behind loading.
    What the block makes must not be used before it is left: `ModelSetError`, naming the first file
    that is missing or differs, comes then, instead of whatever the block raised.
    """
    with ThreadPoolExecutor(_HASHING_THREADS) as pool:
        names = sorted(info.files if files is None else files)
        checks = pool.map(partial(_verify_file, folder, info), names)
        try:
            yield
        finally:
            list(checks)  # raises what a thread has found


def write_info(folder: Path, info: ModelSetInfo) -> ModelSetInfo:
    """Hash the files that ``info`` names, write ``modelset.json`` last; returns it, complete."""
    content = {"format": FORMAT} | asdict(info)
    for key in ("reading", "genes", "contig_model"):
        if content[key] in (FRAMES, None):  # as sets were written that knew no other reading
            del content[key]
    for key in ("nucleotide", "peptide"):
        content[key] = {k: v for k, v in content[key].items() if (k, v) != ("name", None)}
    content["files"] = {name: sha256(folder / name) for name in sorted(info.needed_files)}
    (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return read_info(folder)


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _described(part: Any) -> dict[str, Any]:
    """What a checksum is made of; names for people are none of it."""
    return {key: value for key, value in asdict(part).items() if key != "name"}


def _verify_file(folder: Path, info: ModelSetInfo, name: str) -> None:
    path = folder / name
    if not path.is_file():
        raise ModelSetError(f"{path}: missing from model set {info.name!r}.")
    if sha256(path) != info.files[name]:
        raise ModelSetError(
            f"{path}: damaged, its SHA-256 is not the one in {MANIFEST}. "
            f"Import or download model set {info.name!r} again."
        )


def _check_inside(folder: Path, name: str) -> None:
    plain = Path(name).name == name and name not in ("", ".", "..") and name.isprintable()
    if not plain or (folder / name).is_symlink():
        raise ModelSetError(f"{folder / MANIFEST}: names {name!r}, not a plain file of its folder.")
