"""``virus_summary.tsv``: what was found, in the columns of geNomad's summary."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator
from operator import itemgetter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from virnuc_dask.outputs.contig_table import read_contig_table
from virnuc_dask.outputs.fields import fields, text_table
from virnuc_dask.outputs.regions import names
from virnuc_dask.tables.folder import RunFolder

SUMMARY_HEADER = (
    "seq_name\tlength\ttopology\tcoordinates\tn_genes\tgenetic_code\tvirus_score\tfdr\t"
    "n_hallmarks\tmarker_enrichment\ttaxonomy\n"
)
_SCORES = ("score", "probability", "q_value")
_COLUMNS = ("record_id", "length_nt", "call", *_SCORES, "topology", "genes")
_NONE = "NA"
_TOPOLOGIES = {"direct_repeat": "DTR", "inverted_repeat": "ITR", "": "No terminal repeats"}
_Row = tuple[str, int, str, str, int | str, float | None, float | None]  # see `_line`


def write_virus_summary(
    folder: RunFolder, is_virus: NDArray[np.bool_], sure: Iterable[pa.Table]
) -> None:
    """Write ``virus_summary.tsv``: a line for each sequence of both FASTA files, in input order.

    ``virus_score`` of a record is its probability, else its score; ``fdr`` the q-value. What is not
    known is NA: of a set that reads frames, genes and topology too.

    Parameters
    ----------
    is_virus
        Which records are in ``virus.fasta``; their values come from ``contigs.tsv``.
    sure
        The regions in ``virus_regions.fasta``, with their ``q_value``.
    """
    rows = heapq.merge(_viruses(folder, is_virus), _proviruses(sure), key=itemgetter(0))
    with text_table(folder.output("virus_summary.tsv"), SUMMARY_HEADER) as stream:
        stream.writelines(_line(*row) for _, row in rows)


def _viruses(folder: RunFolder, is_virus: NDArray[np.bool_]) -> Iterator[tuple[int, _Row]]:
    tables = read_contig_table(folder.output("contigs.tsv"), _COLUMNS)
    records = itertools.chain.from_iterable(table.to_pylist() for table in tables)
    for index, row in enumerate(records):
        if is_virus[index]:
            topology = _TOPOLOGIES.get(row["topology"], _NONE)  # null, of frames
            value = row["score"] if row["probability"] is None else row["probability"]
            genes = _NONE if row["genes"] is None else row["genes"]
            length = row["length_nt"]
            yield index, (row["record_id"], length, topology, _NONE, genes, value, row["q_value"])


def _proviruses(sure: Iterable[pa.Table]) -> Iterator[tuple[int, _Row]]:
    for table in sure:
        for name, row in zip(names(table), table.to_pylist(), strict=True):
            start, end, genes = row["start"], row["end"], row.get("genes", _NONE)
            values = f"{start + 1}-{end}", genes, row["score"], row["q_value"]
            yield row["record_index"], (name, end - start, "Provirus", *values)


def _line(
    name: str,
    length: int,
    topology: str,
    coordinates: str,
    genes: int | str,
    score: float | None,
    fdr: float | None,
) -> str:
    known = (_NONE if value is None else f"{value:.4f}" for value in (score, fdr))
    columns = *fields([name]), length, topology, coordinates, genes, _NONE, *known, *[_NONE] * 3
    return "\t".join(map(str, columns)) + "\n"
