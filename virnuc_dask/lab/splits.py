"""Which fold each record is in: whole groups are held out, and some genomes of groups that are not.

A fold from 0 on is one to train on; what is in none of them is a test: `NEW_GROUPS`, or
`NEW_SPECIES` of groups that others of are trained on.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from virnuc_dask.lab.genomes import Genome
from virnuc_dask.lab.kmers import sampled
from virnuc_dask.lab.recipe import NOISE, SplitSettings
from virnuc_dask.sequences.bases import Kmers

NEW_GROUPS = -1
NEW_SPECIES = -2

_K = 21
_ONE_IN = 20  # k-mers that are compared


def folds_of(genomes: Sequence[Genome], settings: SplitSettings) -> list[int]:
    """The fold of each record. It depends on the names alone, but for new species."""
    folds = [fold_of(genome.split_by, settings) for genome in genomes]
    groups: dict[str, list[int]] = defaultdict(list)
    for row, (genome, fold) in enumerate(zip(genomes, folds, strict=True)):
        if fold >= 0 and genome.kind not in (NOISE, "eukaryote"):
            groups[genome.split_by].append(row)
    for rows in groups.values():
        for row in _new_species([genomes[row] for row in rows], rows, settings):
            folds[row] = NEW_SPECIES
    return folds


def fold_of(group: str, settings: SplitSettings) -> int:
    """The fold of a group, by a hash of its name: a number from 0, or `NEW_GROUPS`."""
    place = place_of(group)
    if place < settings.test:
        return NEW_GROUPS
    return int((place - settings.test) / (1 - settings.test) * settings.folds)


def place_of(name: str) -> float:
    """Where a hash puts a name, in [0, 1): the same for ever."""
    digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 2**32


def _new_species(
    group: Sequence[Genome], rows: Sequence[int], settings: SplitSettings
) -> list[int]:
    """Rows of the first genome, by hash, that resembles no other of the group; none if all do."""
    parts: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(group):
        parts[record.genome].append(index)
    if len(parts) < settings.genomes:
        return []
    kmers = {name: _sample(group, of) for name, of in parts.items()}
    for name in sorted(parts, key=lambda name: place_of(f"species {name}")):
        others = [kmers[other] for other in parts if other != name]
        if len(kmers[name]) and _most_shared(kmers[name], others) < settings.shared:
            return [rows[index] for index in parts[name]]
    return []


def _sample(group: Sequence[Genome], of: Sequence[int]) -> Kmers:
    return np.unique(np.concatenate([sampled(group[row].dna, _K, _ONE_IN) for row in of]))


def _most_shared(kmers: Kmers, others: Sequence[Kmers]) -> float:
    shared = [np.isin(kmers, other, assume_unique=True).mean() for other in others]
    return float(max(shared, default=0.0))
