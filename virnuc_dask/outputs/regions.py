"""The files of regions, the stretches of records that are viral: BED, GFF3."""

from __future__ import annotations

from urllib.parse import quote

import pyarrow as pa

GFF3_HEADER = "##gff-version 3\n"
_SEQID = ".:^*$@!+_?-|"  # that GFF3 leaves as they are in names of sequences, besides letters
_COLUMNS = ("record_id", "start", "end", "score", "probability", "q_value")


def names(regions: pa.Table) -> list[str]:
    """A name for each region, as geNomad names proviruses: places count from 1, ends belong."""
    columns = (regions[name].to_pylist() for name in _COLUMNS[:3])
    return [f"{of}|provirus_{start + 1}_{end}" for of, start, end in zip(*columns, strict=True)]


def bed_lines(regions: pa.Table) -> str:
    """Lines of ``virus_regions.bed``: six columns, the fifth a thousand times the score."""
    rows = zip(names(regions), *(regions[name].to_pylist() for name in _COLUMNS[:4]), strict=True)
    return "".join(
        f"{of}\t{start}\t{end}\t{name}\t{round(1000 * score)}\t.\n"
        for name, of, start, end, score in rows
    )


def gff3_lines(regions: pa.Table) -> str:
    """Lines of ``virus_regions.gff3``, of the Sequence Ontology's type `viral_sequence`."""
    rows = zip(names(regions), *(regions[name].to_pylist() for name in _COLUMNS), strict=True)
    return "".join(
        f"{quote(of, _SEQID)}\tvirnuc_dask\tviral_sequence\t{start + 1}\t{end}\t{score:.6f}\t.\t.\t"
        f"ID={quote(name, _SEQID)};probability={chance:.6f};q_value={q_value:.6f}\n"
        for name, of, start, end, score, chance, q_value in rows
    )
