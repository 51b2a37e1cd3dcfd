"""What a gene caller says of a gene, column by column; `genes.Genes` says what each means."""

from __future__ import annotations

import numpy as np

START_TYPES = ("ATG", "GTG", "TTG", "edge", "other")

CALL = np.dtype(
    [
        ("start", np.int64),
        ("end", np.int64),
        ("strand", np.int8),
        ("partial_left", np.bool_),
        ("partial_right", np.bool_),
        ("start_type", np.uint8),
        ("rbs", np.bool_),
        ("translation_table", np.int8),
        ("model", np.int16),
        ("confidence", np.float32),
        ("coding_score", np.float32),
        ("start_score", np.float32),
        ("rbs_score", np.float32),
        ("upstream_score", np.float32),
        ("type_score", np.float32),
    ]
)
