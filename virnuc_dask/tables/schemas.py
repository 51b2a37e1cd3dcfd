"""The columns of every table. ``VERSION`` changes when they, or what they mean, change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

VERSION = 2
RESULTS_VERSION = 1
"""Of the result tables, in ``run.json``: changes when a column goes or means something else."""

RECORDS = pa.schema(
    [
        ("record_index", pa.int64()),
        ("record_id", pa.string()),
        ("length_nt", pa.int64()),
        ("chunks", pa.int64()),
        ("gc", pa.float64()),
        ("sample", pa.string()),
        ("description", pa.string()),
        ("mate", pa.int8()),
    ]
)

# Of a model set that reads genes.
RECORDS_WITH_ENDS = RECORDS.append(pa.field("topology", pa.string()))

_CHUNK = [
    ("chunk_id", pa.string()),
    ("record_id", pa.string()),
    ("record_index", pa.int64()),
    ("chunk_number", pa.int64()),
    ("start", pa.int64()),
    ("end", pa.int64()),
]

PARTITION = pa.schema([*_CHUNK, ("sequence", pa.string())])

CHUNKS = pa.schema(
    [
        *_CHUNK,
        ("frames", pa.int32()),
        ("score_others", pa.float32()),
        ("score_virus", pa.float32()),
        ("call", pa.string()),
        ("reason", pa.string()),
    ]
)

# ``chunks.parquet``
CHUNKS_OF_SAMPLES = CHUNKS.append(pa.field("sample", pa.string()))

# A frame's chunk is named by its row in the partition too: ids of an input can repeat, rows cannot.
_FRAME = [
    ("frame_id", pa.string()),
    ("chunk_id", pa.string()),
    ("record_id", pa.string()),
    ("chunk_row", pa.int32()),
]

FRAME_ROWS = pa.schema([*_FRAME, ("strand", pa.string()), ("offset", pa.int8())])

# A row of a model set that reads genes: a gene, or a frame of a record or piece without one, whose
# start and end are those of the frame's chunk. Places are 0-based and half-open in the record.
GENE_ROWS = pa.schema(
    [
        *_FRAME,
        ("record_index", pa.int64()),
        ("reading", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("strand", pa.string()),
        ("partial_left", pa.bool_()),
        ("partial_right", pa.bool_()),
        ("start_type", pa.string()),
        ("rbs", pa.bool_()),
        ("translation_table", pa.int8()),
        ("model", pa.int16()),
        ("confidence", pa.float32()),
        ("coding_score", pa.float32()),
        ("start_score", pa.float32()),
        ("rbs_score", pa.float32()),
        ("upstream_score", pa.float32()),
        ("type_score", pa.float32()),
    ]
)

# What embeddings can be stored as.
DTYPES = {"float32": pa.float32(), "float16": pa.float16()}

_SCORES = [
    ("label", pa.string()),
    ("score_others", pa.float32()),
    ("score_virus", pa.float32()),
]

PREDICTIONS = pa.schema([*_FRAME, *_SCORES])

# ``genes.parquet``: a row a gene, whose ``label`` is its own call; ``viral_probability`` is what
# its neighbours say too, and ``region`` the number in its record of the region that it lies in.
GENES = pa.schema(
    [*GENE_ROWS, *_SCORES, ("viral_probability", pa.float32()), ("region", pa.int32())]
)


def regions(rows: str = "genes") -> pa.Schema:
    """Columns of ``virus_regions.tsv``: stretches of records from a viral row's start to an end.

    ``rows`` are ``genes``, or ``chunks`` of a model set that reads frames.
    """
    columns = [
        ("record_id", pa.string()),
        ("region", pa.int32()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        (rows, pa.int64()),
        ("score", pa.float64()),
        ("probability", pa.float64()),
        ("q_value", pa.float64()),
    ]
    return pa.schema(columns)


# Regions as they are found, before they are compared with each other; see `regions.evidence_of`.
REGIONS = pa.schema(
    [*list(regions())[:-1], ("evidence", pa.float64()), ("record_index", pa.int64())]
)

_CONTIG = [
    ("record_id", pa.string()),
    ("length_nt", pa.int64()),
    ("chunks", pa.int64()),
    ("chunks_scored", pa.int64()),
    ("score", pa.float64()),
    ("probability", pa.float64()),
    ("q_value", pa.float64()),
    ("call", pa.string()),
]
_COMPOSITION = [("gc", pa.float64()), ("virus_fraction", pa.float64())]

# ``contigs.tsv`` and ``contigs.parquet``, of a model set that reads frames, and of one for genes.
_ORIGIN = [("description", pa.string()), ("sample", pa.string())]
CONTIGS = pa.schema([*_CONTIG, ("chunks_virus", pa.int64()), *_COMPOSITION, *_ORIGIN])
CONTIGS_OF_GENES = pa.schema(
    [
        *_CONTIG,
        ("reading", pa.string()),
        ("genes", pa.int64()),
        ("viral_genes", pa.int64()),
        ("coding_density", pa.float64()),
        ("topology", pa.string()),
        ("reliability", pa.float64()),
        *_COMPOSITION,
        *_ORIGIN,
    ]
)

# ``pairs.tsv``
PAIRS = pa.schema(
    [
        *((name, pa.string()) for name in ("pair_id", "sample")),
        *((name, pa.int64()) for name in ("length_1", "length_2")),
        *((name, pa.float64()) for name in ("score", "probability", "q_value")),
        ("call", pa.string()),
    ]
)


def features(
    nucleotide: int, peptide: int, dtype: str = "float32", *, genes: bool = False
) -> pa.Schema:
    """Columns of a feature table for encoders of these sizes; ``dtype`` is one of `DTYPES`.

    Of a model set that reads ``genes`` a row is a gene.
    """
    value = DTYPES[dtype]
    vectors = [("nucleotide", pa.list_(value, nucleotide)), ("peptide", pa.list_(value, peptide))]
    return pa.schema([*(GENE_ROWS if genes else FRAME_ROWS), *vectors])


def gene_predictions(evidence: int) -> pa.Schema:
    """Columns of a prediction table of a model set that reads genes.

    ``evidence`` is how many numbers a row's list of that name has: its viral logit, and the
    features that the contig model looks at.
    """
    return pa.schema([*GENE_ROWS, *_SCORES, ("evidence", pa.list_(pa.float32(), evidence))])


def filled(schema: pa.Schema, given: Mapping[str, Any], rows: int) -> pa.Table:
    """A table of the ``given`` columns; numbers of the others are 0, flags false."""
    columns = [
        given[f.name] if f.name in given else pa.array(np.zeros(rows, f.type.to_pandas_dtype()))
        for f in schema
    ]
    return pa.table(columns, schema=schema)
