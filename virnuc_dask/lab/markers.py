"""MetaPhlAn's marker genes, whose names tell viruses, transcripts and others.

``GeneID:…`` are viral; ``gi|…`` are bacterial, archaeal and eukaryotic, those with an ``XM_`` or
``NM_`` accession eukaryotic transcripts; the few ``NC_…``, of mixed origin, are left out.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from virnuc_dask.lab.genomes import Exclusions
from virnuc_dask.lab.recipe import MarkerSettings
from virnuc_dask.lab.splits.folds import place_of
from virnuc_dask.lab.splits.kmers import words_of
from virnuc_dask.sequences.bases import translate
from virnuc_dask.sequences.records import Record, read_records

log = logging.getLogger(__name__)

VIRUS, TRANSCRIPT, OTHER = "virus", "transcript", "other"
TEST_BIT = 15  # of `similar_to`; a lower one is a fold's

_NAME = re.compile(r"(?P<source>GeneID:|gi\|)(?P<number>\d+)(?:\|\w+\|(?P<accession>[^|]+))?")
# Contigs of one draft genome share the first letters and the version of their accessions.
_DRAFT = re.compile(r"(?:[A-Z]{2}_)?(?P<assembly>[A-Z]{4}\d{2})\d{6}")
_TRANSCRIPT = re.compile(r"[XN]M_(\d+)")
# Viral genes have no accession; those of one genome have neighbouring numbers. So have transcripts.
_NEIGHBOURS = {VIRUS: 50, TRANSCRIPT: 500}
_BATCH = 20_000
_WORD = 8  # residues
_SCHEMA = pa.schema(
    [
        ("marker", pa.string()),
        ("dna", pa.large_string()),
        ("peptide", pa.large_string()),
        ("kind", pa.string()),
        ("group", pa.string()),
        ("similar_to", pa.uint16()),
    ]
)


@dataclass(frozen=True, slots=True)
class Marker:
    """A gene: whole codons in coding direction."""

    name: str
    dna: str
    peptide: str
    kind: str
    group: str  # of what is known of its genome


def read_markers(path: Path, settings: MarkerSettings, exclusions: Exclusions) -> list[Marker]:
    """The markers that may be used, of others a share by a hash of their names.

    `BadInputError` if the file cannot be read.
    """
    left_out: Counter[str] = Counter()
    records = (record for record in read_records([str(path)]) if _is_chosen(record.id, settings))
    markers: list[Marker] = []
    while batch := list(islice(records, _BATCH)):
        usable = exclusions.usable(batch, left_out)
        markers += _open_ones(usable, settings.shortest_residues, left_out)
    for reason, count in left_out.items():
        log.info("%d markers left out: %s", count, reason)
    return markers


def marker_table(
    markers: Sequence[Marker], viral: Iterable[tuple[int, Sequence[str]]], settings: MarkerSettings
) -> pa.Table:
    """A row a marker; bits of ``similar_to`` say of what folds it shares words with viruses.

    ``viral`` has the peptides of each bit's viruses: a fold's number, or `TEST_BIT`.
    """
    words = words_of([marker.peptide for marker in markers], _WORD)
    similar = np.zeros(len(markers), np.uint16)
    for bit, peptides in viral:
        known = np.isin(words.number, words_of(peptides, _WORD).number)
        shared = np.bincount(words.text[known], minlength=len(markers))
        similar |= (shared >= settings.similar_words).astype(np.uint16) << np.uint16(bit)
    columns = zip(*map(astuple, markers), strict=True) if markers else [[]] * len(fields(Marker))
    return pa.table([*map(list, columns), similar], schema=_SCHEMA)


def told_by(name: str) -> tuple[str, str] | None:
    """A marker's kind and the group of its genome, by its name; None if it is to be left out."""
    found = _NAME.match(name)
    if not found:
        return None
    accession = found["accession"] or ""
    if found["source"] == "GeneID:":
        return VIRUS, f"GeneID:{int(found['number']) // _NEIGHBOURS[VIRUS]}"
    if transcript := _TRANSCRIPT.match(accession):
        return TRANSCRIPT, f"XM:{int(transcript[1]) // _NEIGHBOURS[TRANSCRIPT]}"
    draft = _DRAFT.match(accession)
    return OTHER, draft["assembly"] if draft else accession.partition(".")[0] or name


def _is_chosen(name: str, settings: MarkerSettings) -> bool:
    shares = {VIRUS: 1.0, OTHER: settings.others, TRANSCRIPT: settings.transcripts}
    told = told_by(name)
    return told is not None and place_of(name) <= shares[told[0]]


def _open_ones(
    records: Iterable[Record], shortest: int, left_out: Counter[str]
) -> Iterator[Marker]:
    """Those that are an open frame, but for a stop codon at the end."""
    for record in records:
        dna = record.dna.upper()[: len(record.dna) // 3 * 3]
        peptide = translate(dna).rstrip("*")
        if len(peptide) < shortest or "*" in peptide:
            left_out["no open frame, or a short one"] += 1
        elif told := told_by(record.id):
            yield Marker(record.id, dna, peptide, *told)
