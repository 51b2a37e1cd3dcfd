"""The tables that a training reads, and what may be taught of them when some is held out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from virnuc_dask.lab.markers import OTHER, TEST_BIT, TRANSCRIPT, VIRUS
from virnuc_dask.lab.recipe import PROPHAGE, VIRUSES

TEST = -1  # the fold of groups that are held out; the one below is of new species
_MARKERS = {VIRUS: "viral_marker", OTHER: "other_marker", TRANSCRIPT: "transcript"}
VIRAL_KINDS = (*VIRUSES, _MARKERS[VIRUS])
_MARKER_FOLD = 100  # no fold: markers are held out by what they resemble

Flags = NDArray[np.bool_]


class Prepared(NamedTuple):
    """The files that are ready, and a hash of what they were made from."""

    fragments: Path  # fragment, record, class, group, start, end, length_nt, round, fold, …
    genes: Path  # fragment, the columns of `Genes`, doubtful; ordered by (fragment, start)
    markers: Path  # marker, dna, peptide, kind, group, similar_to
    sequences: Path  # fragment, dna: a row a fragment
    fingerprint: str

    @classmethod
    def of(cls, folder: Path, fingerprint: str) -> Self:
        """All in one folder."""
        return cls(
            fragments=folder / "fragments.parquet",
            genes=folder / "genes.parquet",
            markers=folder / "markers.parquet",
            sequences=folder / "sequences.parquet",
            fingerprint=fingerprint,
        )


@dataclass(frozen=True, slots=True)
class Fragments:
    """Contigs to learn from, column by column."""

    kind: NDArray[np.str_]
    group: NDArray[np.int64]
    genome: NDArray[np.int64]  # those of one, and one round of cuts, follow each other
    tile: NDArray[np.int64]  # the record that it was cut from, a genome or a piece of one
    length_nt: NDArray[np.float64]
    fold: NDArray[np.int8]
    is_doubtful: Flags
    is_prophage: Flags

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``fragments.parquet``."""
        table = pq.read_table(path)
        kind = _texts(table["class"])
        return cls(
            kind=kind,
            group=_groups(table["group"], kind),
            genome=_genomes(table),
            tile=np.unique(_texts(table["record"]), return_inverse=True)[1],
            length_nt=table["length_nt"].to_numpy().astype(np.float64),
            fold=table["fold"].to_numpy(),
            is_doubtful=table["doubtful"].to_numpy(),
            is_prophage=table["prophage"].to_numpy(),
        )

    @property
    def part(self) -> NDArray[np.int8]:
        """The part of the training that it is in: its fold, or `TEST`, new species too."""
        part: NDArray[np.int8] = np.maximum(self.fold, np.int8(TEST))
        return part

    @property
    def is_virus(self) -> Flags:
        """Whether it is of a virus."""
        return np.isin(self.kind, VIRUSES)

    @property
    def judged_kind(self) -> NDArray[np.str_]:
        """What it counts as where evidence is judged: prophages too; "" if that is not known."""
        doubtful = np.where(self.is_prophage & (self.kind == "prokaryote"), PROPHAGE, "")
        return np.where(self.is_sure, self.kind, doubtful)

    @property
    def is_sure(self) -> Flags:
        """Whether its label may be believed."""
        return self.is_virus | ~self.is_doubtful


@dataclass(frozen=True, slots=True)
class Texts:
    """All genes of fragments, then all markers: what they are and what they say."""

    dna: pa.ChunkedArray
    peptide: pa.ChunkedArray
    kind: NDArray[np.str_]
    group: NDArray[np.int64]
    fold: NDArray[np.int8]
    is_sure: Flags
    similar_to: NDArray[np.uint16]

    @classmethod
    def read(cls, prepared: Prepared) -> Self:
        """Read what a training reads of texts."""
        fragments = Fragments.read(prepared.fragments)
        table = pq.read_table(prepared.genes, columns=["fragment", "dna", "peptide", "doubtful"])
        of = table["fragment"].to_numpy()
        more = pq.read_table(prepared.markers)
        nothing = np.zeros(len(of), np.uint16)
        viral, many = fragments.is_virus[of], len(more)
        kind = np.array([_MARKERS[name] for name in more["kind"].to_pylist()], np.str_)
        group = _groups(more["group"], kind) + fragments.group.max(initial=0) + 1
        return cls(
            dna=pa.chunked_array([*table["dna"].chunks, *more["dna"].chunks], pa.large_string()),
            peptide=pa.chunked_array(
                [*table["peptide"].chunks, *more["peptide"].chunks], pa.large_string()
            ),
            kind=np.concatenate([fragments.kind[of], kind]),
            group=np.concatenate([fragments.group[of], group]),
            fold=np.concatenate([fragments.fold[of], np.full(many, _MARKER_FOLD, np.int8)]),
            is_sure=np.concatenate([viral | ~table["doubtful"].to_numpy(), np.ones(many, bool)]),
            similar_to=np.concatenate([nothing, more["similar_to"].to_numpy()]),
        )

    def may_teach(self, held_out: int | None) -> Flags:
        """Rows that are taught where a fold, or `TEST`, is held out; None: where nothing is.

        The tests are held out with every fold.
        """
        if held_out is None:
            return self.is_sure
        bits = 1 << TEST_BIT | (1 << held_out if held_out >= 0 else 0)
        resembles = (self.similar_to & np.uint16(bits)) > 0
        taught: Flags = self.is_sure & (self.fold >= 0) & (self.fold != held_out) & ~resembles
        return taught


def _texts(column: pa.ChunkedArray) -> NDArray[np.str_]:
    return np.array(column.to_pylist(), np.str_)


def _groups(column: pa.ChunkedArray, kind: NDArray[np.str_]) -> NDArray[np.int64]:
    """A number for each group of each kind: a phage's group is not its host's."""
    names = np.char.add(np.char.add(kind, "|"), _texts(column))
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _genomes(fragments: pa.Table) -> NDArray[np.int64]:
    """A number for each genome and round: tiles are named by their genome and their place."""
    records = zip(fragments["record"].to_pylist(), fragments["round"].to_pylist(), strict=True)
    of = [f"{record.partition(':')[0]} {number}" for record, number in records]
    return np.unique(np.array(of, np.str_), return_inverse=True)[1].astype(np.int64)
