"""Others that resemble a viral gene: found once, to be kept out of the calibration.

Marker genes are labelled by their genome, and genomes of bacteria and archaea hold prophages. A
gene whose protein resembles a viral gene's may be one of these.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from virnuc_dask.pretraining.genes import Gene, digest_of
from virnuc_dask.pretraining.homology import Likeness, similar_pairs
from virnuc_dask.tables.parquet import written_whole

log = logging.getLogger(__name__)

# Of MMseqs2. Every viral gene is a query: five would take as long as the split by homology.
_SENSITIVITY = 4.0


def doubtful_genes(
    genes: Sequence[Gene],
    parts: Mapping[str, Sequence[Gene]],
    likeness: Likeness,
    threads: int,
    path: Path,
) -> frozenset[str]:
    """Names of others in ``parts`` whose protein resembles that of a viral gene of ``genes``.

    Parameters
    ----------
    genes
        All that may be used; viral ones that the split left out are compared, too.
    likeness
        What counts as similar; the sensitivity is this module's own.
    path
        JSON: what was found, kept for the same genes.

    Raises
    ------
    UsageError
        If MMseqs2 is needed and is not installed or fails.
    """
    viral = [gene for gene in genes if gene.is_virus]
    others = [gene for part in parts.values() for gene in part if not gene.is_virus]
    likeness = replace(likeness, sensitivity=_SENSITIVITY)
    digest = digest_of([*viral, *others], asdict(likeness))
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["genes"] == digest:
            return frozenset(kept["doubtful"])
    log.info("comparing %d others with %d viral genes", len(others), len(viral))
    _, target = similar_pairs([*viral, *others], range(len(viral)), likeness, threads)
    found = np.unique(target[target >= len(viral)]) - len(viral)
    names = sorted(others[index].name for index in found.tolist())
    with written_whole(path) as stream:
        stream.write(json.dumps({"genes": digest, "doubtful": names}).encode())
    return frozenset(names)
