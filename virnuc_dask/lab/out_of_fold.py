"""Words learnt without a part of the training, and what they say of the part's genes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from virnuc_dask.encoders.words import KNOWN_DNA, KNOWN_PEPTIDE, DnaWords, PeptideWords
from virnuc_dask.lab import known_words, weighed_words
from virnuc_dask.lab.chances import chances
from virnuc_dask.lab.recipe import NOISE, WordSettings
from virnuc_dask.lab.taught import TEST, VIRAL_KINDS, Fragments, Prepared, Texts

log = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]
Part = int | None  # a fold, `TEST`, or nothing
_BATCH = 50_000
_CODON = 3


@dataclass(frozen=True, slots=True)
class Source:
    """Where the tables lie, and what is kept; all that a process has to know."""

    prepared: Prepared
    kept: Path  # a folder whose name tells what its files were made from
    settings: WordSettings
    seed: int
    folds: int

    @property
    def frames(self) -> Path:
        """The table of `short_pieces.draw_frames`."""
        return self.kept / "frames.parquet"

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is left out at a time."""
        return (*range(self.folds), TEST, None)

    def file(self, name: str, left_out: Part) -> Path:
        """The file of tables of words or known words, or of a part's features."""
        return self.kept / f"{name}-{'none' if left_out is None else left_out}.safetensors"


def learn_words(source: Source, processes: int) -> None:
    """Make the encoders' tables and the features of every part, where they are not there yet."""
    if not all(source.file("known", part).exists() for part in source.parts):
        _count_known(source)
    if processes == 1:
        for part in source.parts:
            _learn_part(source, part)
        return
    # New processes: a fork of one with threads may hang.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for part in pool.map(_learn_part, [source] * len(source.parts), source.parts):
            log.info("words without %s", "nothing" if part is None else f"part {part}")


def gather(source: Source, name: str, path: Path) -> NDArray[np.float32]:
    """The features of a table's rows, each from the words that were learnt without it."""
    parts = [load_file(source.file(name, part)) for part in source.parts if part is not None]
    rows, columns = pq.read_metadata(path).num_rows, parts[0]["features"].shape[1]
    features = np.zeros((rows, columns), np.float32)
    for part in parts:
        features[part["row"]] = part["features"]
    return features


def _kept(path: Path, make: Callable[[], Arrays]) -> Arrays:
    """The arrays in a file; they are made, and written whole, if it is not there."""
    if not path.exists():
        half = path.with_suffix(".half")
        save_file({name: np.ascontiguousarray(v) for name, v in make().items()}, half)
        half.rename(path)
    return load_file(path)


def _learn_part(source: Source, part: Part) -> Part:
    tables = _kept(source.file("words", part), lambda: _learn(source, part))
    if part is not None:
        chosen = Fragments.read(source.prepared.fragments).part == part
        for name, path in (("genes", source.prepared.genes), ("frames", source.frames)):
            _kept(source.file(name, part), partial(_embed_part, path, tables, chosen))
    return part


def _embed_part(path: Path, tables: Arrays, is_chosen: NDArray[np.bool_]) -> Arrays:
    """Rows of genes, or frames, of the chosen fragments; and both embeddings, side by side."""
    table = pq.read_table(path, columns=["fragment", "dna", "peptide"])
    row = np.flatnonzero(is_chosen[table["fragment"].to_numpy()])
    texts = table.select(["dna", "peptide"]).take(pa.array(row))
    tensors = {name: torch.from_numpy(values) for name, values in tables.items()}
    encoders = DnaWords({"known": tensors.pop("known_dna")}), PeptideWords(tensors)
    found = [np.zeros((0, sum(encoder.dim for encoder in encoders)), np.float32)]
    for first in range(0, len(row), _BATCH):
        batch = (column.to_pylist() for column in texts.slice(first, _BATCH).columns)
        found.append(np.hstack([of.embed(t) for of, t in zip(encoders, batch, strict=True)]))
    return {"row": row, "features": np.concatenate(found)}


def _learn(source: Source, part: Part) -> Arrays:
    texts = Texts.read(source.prepared)
    peptides = texts.peptide.to_pylist()
    length = np.fromiter(map(len, peptides), np.int64, len(peptides))
    is_taught = texts.may_teach(part) & (length >= weighed_words.SHORTEST)
    kind = np.where(is_taught, texts.kind, "")
    chance = chances(kind, texts.group, source.settings.shares)
    target = weighed_words.targets(texts.kind)
    seed = source.seed * 100 + (99 if part is None else part + 1)
    learnt = weighed_words.learn(peptides, target, chance, source.settings, seed)
    return learnt.tables() | load_file(source.file("known", part))


def _count_known(source: Source) -> None:
    """Known words of every part, from counts of what is held out together."""
    texts = Texts.read(source.prepared)
    viral, is_counted = np.isin(texts.kind, VIRAL_KINDS), texts.is_sure & (texts.kind != NOISE)
    taught = {part: texts.may_teach(part) for part in source.parts}
    found: dict[Part, Arrays] = {part: {} for part in source.parts}
    together = texts.fold.astype(np.int64) * 256 + texts.similar_to
    cells = [np.flatnonzero(is_counted & (together == c)) for c in np.unique(together)]
    for name, pattern, step, column in (
        ("known", KNOWN_PEPTIDE, 1, texts.peptide),
        ("known_dna", KNOWN_DNA, _CODON, texts.dna),
    ):
        totals = {part: np.zeros((2, pattern.words), np.uint32) for part in source.parts}
        for rows in filter(len, cells):
            chosen = column.take(pa.array(rows)).to_pylist()
            counts = known_words.count(pattern, chosen, texts.group[rows], viral[rows], step)
            for part, total in totals.items():
                if taught[part][rows[0]]:
                    total += counts
        for part in source.parts:
            found[part][name] = known_words.pack_log_odds(known_words.log_odds(totals.pop(part)))
        log.info("%s: counted", name)
    for part, tables in found.items():
        _kept(source.file("known", part), partial(dict, tables))
