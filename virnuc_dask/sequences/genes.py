"""DNA → its genes: where they lie, how sure the caller is, their DNA and their peptides.

A caller sees a sequence as open at both ends: a gene that runs over an end is partial there. So it
does at a gap, a run of 50 or more letters other than A, C, G, T: it is not known how long a gap
is, nor in which frame a gene would go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from virnuc_dask.errors import BadSettingError, ModelSetError
from virnuc_dask.sequences.bases import reverse_complement, translate_codons
from virnuc_dask.sequences.chunks import Pieces, blocks_of
from virnuc_dask.sequences.fast_genes import GeneModels, call_genes
from virnuc_dask.sequences.gene_columns import CALL
from virnuc_dask.sequences.gene_columns import START_TYPES as START_TYPES

if TYPE_CHECKING:
    from pyrodigal import Gene, GeneFinder
    from pyrodigal import Genes as PyrodigalGenes

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Floats = NDArray[np.float32]

PYRODIGAL, FAST = "pyrodigal-gv", "fast"

_SHORTEST_GAP = 50
_GAP = re.compile(f"[^ACGT]{{{_SHORTEST_GAP},}}")


@dataclass(frozen=True, slots=True)
class Genes:
    """Genes of many sequences, column by column, ordered by (sequence, start, end, strand).

    Scores are pyrodigal's: log-likelihood ratios of a gene against none, in nats or near to them.
    """

    sequence: IntArray  # row in the sequences that were given
    start: IntArray  # 0-based, half-open, leftmost base first on either strand; whole codons
    end: IntArray
    strand: NDArray[np.int8]  # +1, -1
    partial_left: BoolArray  # it runs over the left end of the sequence, or into a gap
    partial_right: BoolArray
    start_type: NDArray[np.uint8]  # place in START_TYPES; edge where the begin is not there
    rbs: BoolArray  # a motif of a ribosome binding site lies before the start
    translation_table: NDArray[np.int8]
    model: NDArray[np.int16]  # the caller's number for the one it chose; -1, no choice
    confidence: Floats  # 0 to 1
    coding_score: Floats
    start_score: Floats  # the sum of the next three, and of what else counts for a start
    rbs_score: Floats
    upstream_score: Floats
    type_score: Floats
    dna: list[str]  # 5' to 3', upper case, whole codons, with the stop codon where there is one
    peptides: list[str]  # without the stop; X for a codon with another letter than A, C, G, T

    def __len__(self) -> int:
        return len(self.sequence)

    def take(self, rows: IntArray) -> Genes:
        """The genes of these rows, in their order."""
        columns = [getattr(self, field.name) for field in fields(self)[:-2]]
        texts = ([text[row] for row in rows.tolist()] for text in (self.dna, self.peptides))
        return Genes(*(column[rows] for column in columns), *texts)


@dataclass(frozen=True, slots=True)
class GeneCaller:
    """Finds genes. What it finds in a sequence depends on that sequence alone."""

    # Upper-case sequences without gaps → what is found in each: rows of `CALL`.
    _call: Callable[[list[str]], list[NDArray[np.void]]]
    _block_nt: int  # of sequences that are given together

    def find(self, sequences: Sequence[str], threads: int = 1) -> Genes:
        """The genes of ``sequences``, which are ASCII letters in any case, on some threads."""
        upper = [dna.upper() for dna in sequences]
        stretches = [piece for row, dna in enumerate(upper) for piece in _stretches(row, dna)]
        blocks = blocks_of((piece.dna for piece in stretches), self._block_nt)
        with ThreadPoolExecutor(threads, "gene-caller") if threads > 1 else nullcontext() as pool:
            each = map if pool is None else pool.map
            calls = [call for calls in each(self._call, blocks) for call in calls]
        return genes_of(upper, stretches, calls)


class _Stretch(NamedTuple):
    """DNA between two gaps, or ends, of a sequence."""

    sequence: int
    first: int
    dna: str


def gene_caller(name: str = PYRODIGAL, models: Sequence[int | str] | None = None) -> GeneCaller:
    """The gene caller called ``name``, ``pyrodigal-gv`` or ``fast``.

    pyrodigal-gv chooses from ``models``, given by number (``20``) or name
    (``Escherichia_coli_UMN026``), or from all of its own; ``fast`` has no choice.

    Raises
    ------
    BadSettingError, ModelSetError
        If there is no such caller, or no such gene model.
    """
    if name == PYRODIGAL:
        return GeneCaller(partial(_call_by_pyrodigal, _finder(models)), 1)
    if name == FAST:
        # Its arrays stay in the processor's cache.
        return GeneCaller(partial(call_genes, models=GeneModels.load()), 1 << 18)
    raise BadSettingError(f"gene caller {name!r} is unknown; there are {PYRODIGAL} and {FAST}.")


def _finder(models: Sequence[int | str] | None) -> GeneFinder:
    """pyrodigal-gv: Prodigal with gene models of giant viruses and gut phages beside its own."""
    from pyrodigal import GeneFinder, MetagenomicBins  # for those who call with it only
    from pyrodigal_gv.meta import METAGENOMIC_BINS

    # Such as 20|Escherichia_coli_UMN026|B|50.7|11|1.
    names = [tuple(model.description.split("|")[:2]) for model in METAGENOMIC_BINS]
    bins = MetagenomicBins([METAGENOMIC_BINS[place] for place in _chosen(names, models)])
    return GeneFinder(meta=True, metagenomic_bins=bins)


def _call_by_pyrodigal(finder: GeneFinder, block: list[str]) -> list[NDArray[np.void]]:
    return [_found(finder.find_genes(dna)) for dna in block]


def owned(genes: Genes, pieces: Pieces, start: IntArray, end: IntArray) -> BoolArray:
    """Which genes belong to the piece they were found in: they begin in its core.

    ``genes.sequence`` is the row of the pieces [start, end) of records.
    """
    first, last = pieces.core(start, end)
    begin = start[genes.sequence] + genes.start
    return (first[genes.sequence] <= begin) & (begin < last[genes.sequence])


def genes_of(
    sequences: Sequence[str], stretches: Sequence[_Stretch], calls: Sequence[NDArray[np.void]]
) -> Genes:
    """Genes from ``calls``: rows of `CALL` for each of the ``stretches`` of ``sequences``."""
    found = np.concatenate([np.empty(0, CALL), *calls], dtype=CALL)
    counts = [len(call) for call in calls]
    sequence = np.repeat(np.array([piece.sequence for piece in stretches], np.int64), counts)
    first = np.repeat(np.array([piece.first for piece in stretches], np.int64), counts)
    found["start"] += first
    found["end"] += first
    order = np.lexsort((found["strand"], found["end"], found["start"], sequence))
    sequence, found = sequence[order], found[order]
    columns: dict[str, Any] = {name: found[name].copy() for name in CALL.names or ()}
    dna = _coding_dna(sequences, sequence, found)
    return Genes(sequence=sequence, **columns, dna=dna, peptides=_peptides(dna, found))


def _chosen(names: Sequence[tuple[str, ...]], models: Sequence[int | str] | None) -> list[int]:
    """Places of the models asked for, in pyrodigal's order, whatever the order asked in."""
    if models is None:
        return list(range(len(names)))
    place = {key: row for row, pair in enumerate(names) for key in pair}
    unknown = [str(model) for model in models if str(model) not in place]
    if unknown or not models:
        raise ModelSetError(
            f"{PYRODIGAL} has no gene model {', '.join(unknown) or 'to choose from'}; its models "
            f"are {', '.join(' '.join(pair) for pair in names)}."
        )
    return sorted({place[str(model)] for model in models})


def _stretches(sequence: int, dna: str) -> Iterator[_Stretch]:
    first = 0
    # Most sequences have no gap, and this is ten times as fast as looking for one.
    unknown = len(dna.encode("ascii").translate(None, b"ACGT"))
    for gap in _GAP.finditer(dna) if unknown >= _SHORTEST_GAP else ():
        yield _Stretch(sequence, first, dna[first : gap.start()])
        first = gap.end()
    yield _Stretch(sequence, first, dna[first:])


def _found(genes: PyrodigalGenes) -> NDArray[np.void]:
    chosen = genes.metagenomic_bin
    model = int(chosen.description.split("|")[0]) if chosen else -1
    return np.array([_row(gene, model) for gene in genes], CALL)


def _row(gene: Gene, model: int) -> tuple[object, ...]:
    """A gene as a row of `CALL`."""
    start = gene.start_type.replace("Edge", "edge")
    return (
        *(gene.begin - 1, gene.end, gene.strand, gene.partial_begin, gene.partial_end),
        START_TYPES.index(start if start in START_TYPES else "other"),
        *(gene.rbs_motif is not None, gene.translation_table, model, gene.confidence() / 100),
        *(gene.cscore, gene.sscore, gene.rscore, gene.uscore, gene.tscore),
    )


def _coding_dna(sequences: Sequence[str], sequence: IntArray, found: NDArray[np.void]) -> list[str]:
    columns = (sequence, found["start"], found["end"])
    spans = zip(*(column.tolist() for column in columns), strict=True)
    dna = [sequences[row][start:end] for row, start, end in spans]
    for row in np.flatnonzero(found["strand"] < 0).tolist():
        dna[row] = reverse_complement(dna[row])
    return dna


def _peptides(dna: Sequence[str], found: NDArray[np.void]) -> list[str]:
    forward = found["strand"] > 0
    has_start = ~np.where(forward, found["partial_left"], found["partial_right"])
    has_stop = ~np.where(forward, found["partial_right"], found["partial_left"])
    codons = np.array([len(text) // 3 for text in dna], np.int64)
    letters = translate_codons("".join(dna), np.repeat(found["translation_table"], codons))
    ends = np.cumsum(codons)
    starts = ends - codons
    # Whatever the start codon codes for elsewhere, a peptide begins with methionine.
    letters[starts[has_start]] = ord("M")
    text = letters.tobytes().decode()
    spans = zip(starts.tolist(), (ends - has_stop).tolist(), strict=True)
    return [text[first:last] for first, last in spans]
