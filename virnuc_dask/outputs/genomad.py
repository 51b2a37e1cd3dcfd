"""``virus_summary.tsv``: the records called virus, in the columns of geNomad's summary."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from virnuc_dask.outputs.contig_table import read_contig_table
from virnuc_dask.outputs.fields import fields
from virnuc_dask.stages.calls import VIRUS
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import written_whole

SUMMARY_HEADER = (
    "seq_name\tlength\ttopology\tcoordinates\tn_genes\tgenetic_code\tvirus_score\tfdr\t"
    "n_hallmarks\tmarker_enrichment\ttaxonomy\n"
)
_NONE = "NA"
_TOPOLOGIES = {"direct_repeat": "DTR", "inverted_repeat": "ITR", "": "No terminal repeats"}


def write_virus_summary(folder: RunFolder) -> None:
    """Write ``virus_summary.tsv`` from the run's ``contigs.tsv``, in input order.

    ``virus_score`` is the probability, else the score; ``fdr`` the q-value. What is not known is
    NA: of a set that reads frames, genes and topology too.
    """
    with written_whole(folder.output("virus_summary.tsv")) as stream:
        stream.write(SUMMARY_HEADER.encode())
        for batch in read_contig_table(folder.output("contigs.tsv")):
            stream.writelines(line.encode() for line in _lines(batch))


def _lines(batch: pa.RecordBatch) -> Iterator[str]:
    for row in batch.filter(pc.equal(batch["call"], VIRUS)).to_pylist():
        value = row["score"] if row["probability"] is None else row["probability"]
        columns = (
            *fields([row["record_id"]]),
            row["length_nt"],
            _TOPOLOGIES[row["topology"]] if "topology" in row else _NONE,
            _NONE,
            row.get("genes", _NONE),
            _NONE,
            f"{value:.4f}",
            _NONE if row["q_value"] is None else f"{row['q_value']:.4f}",
            *[_NONE] * 3,
        )
        yield "\t".join(map(str, columns)) + "\n"
