"""Whole genomes, each with its class and group, and those that may not be used left out."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from virnuc_dask.errors import BadInputError
from virnuc_dask.lab.noise import KINDS
from virnuc_dask.lab.recipe import GENOMES, NOISE, DataSettings
from virnuc_dask.lab.splits.kmers import KmerIndex
from virnuc_dask.sequences.bases import BASES, numbers_of
from virnuc_dask.sequences.records import Record, read_records

log = logging.getLogger(__name__)

EXCLUDED_KMER = 24
_NOISE_NT = 20_000  # of a record of noise
_NEEDED = ("record", "class", "group", "source", "phage_24mers")
_LETTERS = np.frombuffer(BASES.encode(), np.uint8)


@dataclass(frozen=True, slots=True)
class Genome:
    """A record of known class: a genome, a segment, or a tile of one."""

    record: str
    kind: str  # one of GENOMES, or NOISE
    group: str  # what stays together in a split
    source: str
    phage_24mers: int  # shared with known phages
    dna: str

    @property
    def split_by(self) -> str:
        """What all records have that are on one side of the split together."""
        return self.group if self.kind == NOISE else f"{self.group}|{self.kind}"

    @property
    def genome(self) -> str:
        """What the record is a part of, so far as its name tells."""
        accession = self.record.partition(":")[0].partition(".")[0]
        # Contigs of one draft share the letters and the two digits of their accession.
        letters = accession.removeprefix("NZ_")
        is_draft = letters[:4].isalpha() and letters[4:].isdigit() and len(letters) >= 12
        return letters[:6] if is_draft else accession


@dataclass(frozen=True, slots=True)
class Exclusions:
    """What must never be used: records by name, and what shares k-mers with some sequences."""

    names: frozenset[str]
    similar: KmerIndex
    shared: int  # so many k-mers are enough

    @classmethod
    def read(cls, settings: DataSettings) -> Exclusions:
        """Read the list of names and the FASTA files.

        `BadInputError` if one cannot be read.
        """
        try:
            path = settings.exclude_names
            names = Path(path).read_text(encoding="utf-8").split() if path else []
        except (OSError, UnicodeDecodeError) as error:
            raise BadInputError(f"{path}: cannot be read: {error}.") from error
        files = settings.exclude_similar
        dna = (record.dna for record in read_records(list(files))) if files else ()
        similar = KmerIndex.of(dna, EXCLUDED_KMER)
        return cls(frozenset(names), similar, settings.exclude_shared)

    def usable(self, records: Sequence[Record], left_out: Counter[str]) -> Iterator[Record]:
        """Those that may be used; the others are counted by reason."""
        similar = self.similar.shared([record.dna for record in records]) >= self.shared
        for record, is_similar in zip(records, similar.tolist(), strict=True):
            if not self.names.isdisjoint((record.id, record.id.partition(":")[0])):
                left_out["excluded by name"] += 1
            elif is_similar:
                left_out["similar to an excluded sequence"] += 1
            else:
                yield record


def read_genomes(settings: DataSettings, exclusions: Exclusions) -> list[Genome]:
    """Read all genomes that may be used; how many others there are is logged.

    `BadInputError` if a file cannot be read, or a record is not in the table or of another class
    there.
    """
    table = _read_table(settings.table)
    genomes: list[Genome] = []
    for kind in GENOMES:
        left_out: Counter[str] = Counter()
        for path in settings.files(kind):
            for record in read_records([path]):
                usable = exclusions.usable([record], left_out)
                genomes += [_genome(table, kind, record, path) for record in usable]
        for reason, count in left_out.items():
            log.info("%d records of %s left out: %s", count, kind, reason)
    return genomes


def make_noise(genomes: Sequence[Genome], total_nt: int, seed: int) -> list[Genome]:
    """DNA that no organism has, made of stretches of the genomes, each class as much.

    A record of noise has the group of the record it was made from, and so its side of the split.
    Its source is the kind of noise.
    """
    rng = np.random.default_rng((seed, 7))
    usable = [genome for genome in genomes if len(genome.dna) >= _NOISE_NT]
    by_kind = [[genome for genome in usable if genome.kind == kind] for kind in GENOMES]
    long = [of for of in by_kind if of]
    records = total_nt // _NOISE_NT if long else 0
    drawn = [_stretch(long[i % len(long)], rng) for i in range(records)]
    made: list[Genome] = []
    for number, make in enumerate(KINDS):
        if part := drawn[number :: len(KINDS)]:
            windows = make(np.stack([codes for _, codes in part]), rng)
            name = make.__name__
            for (genome, _), window in zip(part, windows, strict=True):
                record = f"{name}_{len(made)}_of_{genome.record}"
                dna = _LETTERS[window].tobytes().decode("ascii")
                made.append(Genome(record, NOISE, genome.split_by, name, 0, dna))
    return made


def _stretch(
    genomes: Sequence[Genome], rng: np.random.Generator
) -> tuple[Genome, NDArray[np.uint8]]:
    genome = genomes[int(rng.integers(len(genomes)))]
    first = int(rng.integers(len(genome.dna) - _NOISE_NT + 1))
    dna = genome.dna[first : first + _NOISE_NT]
    return genome, numbers_of(dna.encode("ascii")) & np.uint8(3)


def _genome(table: Mapping[str, Mapping[str, str]], kind: str, record: Record, path: str) -> Genome:
    row = table.get(record.id)
    if row is None or row["class"] != kind:
        known = f"is {row['class']} there" if row else "is not in it"
        raise BadInputError(f"{path}: {record.id} is to be {kind}, but {known}: mend the table.")
    # Eukaryotes are grouped by where they come from, which says nothing: each is its own group.
    group = record.id.partition(":")[0] if kind == "eukaryote" else row["group"]
    phage_24mers = int(row["phage_24mers"] or 0)
    return Genome(record.id, kind, group, row["source"], phage_24mers, record.dna.upper())


def _read_table(path: str) -> dict[str, dict[str, str]]:
    options = pa.csv.ConvertOptions(
        include_columns=_NEEDED, column_types=dict.fromkeys(_NEEDED, pa.string())
    )
    parsing = pa.csv.ParseOptions(delimiter="\t", quote_char=False)
    try:
        table = pa.csv.read_csv(path, parse_options=parsing, convert_options=options)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise BadInputError(f"{path}: cannot be read: {error}.") from error
    return {row["record"]: row for row in table.to_pylist()}
