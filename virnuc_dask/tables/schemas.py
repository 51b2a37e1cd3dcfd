"""The columns of every table. ``VERSION`` changes when they, or what they mean, change."""

from __future__ import annotations

import pyarrow as pa

VERSION = 2

RECORDS = pa.schema(
    [
        ("record_index", pa.int64()),
        ("record_id", pa.string()),
        ("length_nt", pa.int64()),
        ("chunks", pa.int64()),
    ]
)

PARTITION = pa.schema(
    [
        ("chunk_id", pa.string()),
        ("record_id", pa.string()),
        ("record_index", pa.int64()),
        ("chunk_number", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("sequence", pa.string()),
    ]
)

# A frame's chunk is named by its row in the partition too: ids of an input can repeat, rows cannot.
_FRAME = [
    ("frame_id", pa.string()),
    ("chunk_id", pa.string()),
    ("record_id", pa.string()),
    ("chunk_row", pa.int32()),
]

# What embeddings can be stored as.
DTYPES = {"float32": pa.float32(), "float16": pa.float16()}

PREDICTIONS = pa.schema(
    [
        *_FRAME,
        ("label", pa.string()),
        ("score_others", pa.float32()),
        ("score_virus", pa.float32()),
    ]
)

CHUNKS = pa.schema(
    [
        ("chunk_id", pa.string()),
        ("record_id", pa.string()),
        ("record_index", pa.int64()),
        ("chunk_number", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("frames", pa.int32()),
        ("score_others", pa.float32()),
        ("score_virus", pa.float32()),
        ("call", pa.string()),
        ("reason", pa.string()),
    ]
)


def features(nucleotide_dim: int, peptide_dim: int, dtype: str = "float32") -> pa.Schema:
    """Columns of a feature table for encoders of these sizes; ``dtype`` is one of `DTYPES`."""
    value = DTYPES[dtype]
    return pa.schema(
        [
            *_FRAME,
            ("strand", pa.string()),
            ("offset", pa.int8()),
            ("nucleotide", pa.list_(value, nucleotide_dim)),
            ("peptide", pa.list_(value, peptide_dim)),
        ]
    )
