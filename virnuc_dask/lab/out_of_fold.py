"""Words learnt without a fold, and what they say of the fold's genes.

A part of the training is left out at a time: each fold, then the tests; at last nothing is. What
the words of a part's genes say comes from words that were learnt without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from virnuc_dask.encoders.words import (
    KNOWN_DNA,
    KNOWN_PEPTIDE,
    DnaWords,
    PeptideWords,
)
from virnuc_dask.lab import known_words, weighed_words
from virnuc_dask.lab.recipe import NOISE, WordSettings
from virnuc_dask.lab.taught import TEST, VIRAL_KINDS, Fragments, Texts

log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]
_BATCH = 50_000
_CODON = 3


@dataclass(frozen=True, slots=True)
class Source:
    """Where the tables lie, and what is kept; all that a process has to know."""

    fragments: Path
    genes: Path
    markers: Path
    frames: Path
    kept: Path  # a folder whose name tells what its files were made from
    settings: WordSettings
    seed: int

    def texts(self) -> Texts:
        """The genes and markers."""
        return Texts.read(Fragments.read(self.fragments), self.genes, self.markers)

    def words(self, held_out: int | None) -> Path:
        """The file of the encoders' tables that were made without a fold."""
        return self.kept / f"words-{'none' if held_out is None else held_out}.safetensors"

    def features(self, name: str, held_out: int) -> Path:
        """The file of a part's rows and features; ``name`` is genes or frames."""
        return self.kept / f"{name}-{held_out}.safetensors"


def kept(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """The arrays in a file; they are made, and written whole, if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        save_file({name: np.ascontiguousarray(v) for name, v in make().items()}, half)
        half.rename(path)
    return load_file(path)


def learn_words(source: Source, folds: int, processes: int) -> None:
    """Make the encoders' tables and the features of every part, where they are not there yet."""
    parts: tuple[int | None, ...] = (*range(folds), TEST, None)
    if not all(_known_file(source, part).exists() for part in parts):
        _count_known(source, folds)
    if processes == 1:
        for part in parts:
            _learn_part(source, part)
        return
    # New processes: a fork of one with threads may hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for part in pool.map(_learn_part, [source] * len(parts), parts):
            log.info("words without %s", "nothing" if part is None else f"part {part}")


def encoders(tables: Arrays) -> tuple[DnaWords, PeptideWords]:
    """The encoders of a file of `Source.words`."""
    tensors = {name: torch.from_numpy(values) for name, values in tables.items()}
    peptide = {name: tensors[name] for name in ("weights", "scale", "bias", "known")}
    return DnaWords({"known": tensors["known_dna"]}), PeptideWords(peptide)


def embed(
    encoder: tuple[DnaWords, PeptideWords], dna: pa.ChunkedArray, peptide: pa.ChunkedArray
) -> NDArray[np.float32]:
    """Both embeddings of texts, side by side, as the classifier takes them."""
    found = [np.zeros((0, encoder[0].dim + encoder[1].dim), np.float32)]
    for first in range(0, len(dna), _BATCH):
        texts = (column.slice(first, _BATCH).to_pylist() for column in (dna, peptide))
        found.append(np.hstack([part.embed(t) for part, t in zip(encoder, texts, strict=True)]))
    return np.concatenate(found)


def gather(source: Source, name: str, folds: int, rows: int) -> NDArray[np.float32]:
    """The features of all rows, each from the words that were learnt without it."""
    parts = [load_file(source.features(name, part)) for part in (*range(folds), TEST)]
    features = np.zeros((rows, parts[0]["features"].shape[1]), np.float32)
    for part in parts:
        features[part["row"]] = part["features"]
    return features


def part_of(fold: NDArray[np.int8]) -> NDArray[np.int8]:
    """The part of the training that a fold is in: new species are in the tests."""
    part: NDArray[np.int8] = np.maximum(fold, np.int8(TEST))
    return part


def _learn_part(source: Source, part: int | None) -> int | None:
    tables = kept(source.words(part), lambda: _learn(source, part))
    if part is not None:
        fold = part_of(Fragments.read(source.fragments).fold)
        for name, path in (("genes", source.genes), ("frames", source.frames)):
            kept(source.features(name, part), lambda p=path: _embed_part(p, tables, fold == part))  # type: ignore[misc]
    return part


def _embed_part(path: Path, tables: Arrays, is_chosen: NDArray[np.bool_]) -> Arrays:
    """Rows of genes, or frames, of the chosen fragments; and their features."""
    table = pq.read_table(path, columns=["fragment", "dna", "peptide"])
    row = np.flatnonzero(is_chosen[table["fragment"].to_numpy()])
    texts = table.select(["dna", "peptide"]).take(pa.array(row))
    return {"row": row, "features": embed(encoders(tables), texts["dna"], texts["peptide"])}


def _learn(source: Source, part: int | None) -> Arrays:
    texts = source.texts()
    peptides = texts.peptide.to_pylist()
    length = np.fromiter(map(len, peptides), np.int64, len(peptides))
    is_taught = texts.may_teach(part) & (length >= weighed_words.SHORTEST)
    kind = np.where(is_taught, texts.kind, "")
    chance = weighed_words.chances(kind, texts.group, asdict(source.settings.shares))
    target = weighed_words.targets(texts.kind)
    seed = source.seed * 100 + (99 if part is None else part + 1)
    learnt = weighed_words.learn(peptides, target, chance, source.settings, seed)
    return learnt.tables() | load_file(_known_file(source, part))


def _known_file(source: Source, part: int | None) -> Path:
    path = source.words(part)
    return path.with_name(path.name.replace("words", "known"))


def _count_known(source: Source, folds: int) -> None:
    """Known words of every part, from counts of what is held out together."""
    texts = source.texts()
    viral, is_counted = np.isin(texts.kind, VIRAL_KINDS), texts.is_sure & (texts.kind != NOISE)
    parts: tuple[int | None, ...] = (*range(folds), TEST, None)
    taught = {part: texts.may_teach(part) for part in parts}
    found: dict[int | None, Arrays] = {part: {} for part in parts}
    together = texts.fold.astype(np.int64) * 65536 + texts.similar_to
    cells = [np.flatnonzero(is_counted & (together == c)) for c in np.unique(together)]
    for name, pattern, step, column in (
        ("known", KNOWN_PEPTIDE, 1, texts.peptide),
        ("known_dna", KNOWN_DNA, _CODON, texts.dna),
    ):
        totals = {part: np.zeros((2, pattern.words), np.uint32) for part in parts}
        for rows in filter(len, cells):
            chosen = column.take(pa.array(rows)).to_pylist()
            counts = known_words.count(pattern, chosen, texts.group[rows], viral[rows], step)
            for part in parts:
                if taught[part][rows[0]]:
                    totals[part] += counts
        for part in parts:
            found[part][name] = known_words.table(totals.pop(part))
        log.info("%s: counted", name)
    for part, tables in found.items():
        kept(_known_file(source, part), lambda t=tables: t)  # type: ignore[misc]
