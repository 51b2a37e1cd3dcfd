"""The contig model: what a record's genes say together.

Two models weigh the same numbers (`contig_features`): a logistic regression, and boosted trees.
Their mean is calibrated by the record's length. All weights are plain arrays in one safetensors
file: nothing is executed that a model set brings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from virnuc_dask.errors import ModelSetError
from virnuc_dask.modelsets.contig_features import contig_features, feature_count
from virnuc_dask.modelsets.gene_sums import Floats, GeneSums
from virnuc_dask.modelsets.region_model import RegionModel

READINGS = ("genes", "frames")
Arrays = Mapping[str, NDArray[Any]]
Part = TypeVar("Part")

_FARTHEST = 6.0  # standard deviations that a number may be off, for the logistic model
_BLOCK = 512  # records that walk through all trees together, in a processor's cache


@dataclass(frozen=True, slots=True)
class Logistic:
    """Standardise, clip to six deviations, weigh: (n, features) → log-odds (n,)."""

    mean: Floats
    deviation: Floats
    weight: Floats
    bias: Floats  # one value

    def score(self, features: Floats) -> Floats:
        """Log-odds of virus."""
        standard = np.clip((features - self.mean) / self.deviation, -_FARTHEST, _FARTHEST)
        score: Floats = standard @ self.weight + self.bias
        return score


@dataclass(frozen=True, slots=True)
class Trees:
    """Boosted trees: at each node left where ``feature <= threshold``.

    A leaf is its own left and right. The sum of the leaves' values that a record reaches, one a
    tree, is its log-odds.
    """

    root: NDArray[np.int64]  # of each tree
    feature: NDArray[np.int64]
    threshold: Floats
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: Floats

    def __post_init__(self) -> None:
        nodes = np.arange(len(self.left))
        if not ((self.left == self.right) == (self.left == nodes)).all():
            raise ValueError("a leaf of a tree must be its own left and right")
        inner = self.left != nodes
        # Children come after their parents: every walk ends.
        if not (np.minimum(self.left, self.right)[inner] > nodes[inner]).all():
            raise ValueError("a tree leads back to where it came from")

    def score(self, features: Floats) -> Floats:
        """Log-odds of virus, (n, features) → (n,)."""
        blocks = range(0, len(features), _BLOCK)
        scores = [self._score(features[start : start + _BLOCK]) for start in blocks]
        return np.concatenate([np.zeros(0), *scores])

    def _score(self, features: Floats) -> Floats:
        # `take` of flat arrays: a third of the time of indexing with two.
        child = np.stack([self.left, self.right], axis=1).ravel()
        values, first = features.ravel(), np.arange(len(features))[:, None] * features.shape[1]
        node = np.broadcast_to(self.root, (len(features), len(self.root)))
        while True:
            goes_left = values.take(first + self.feature.take(node)) <= self.threshold.take(node)
            after = child.take(2 * node + ~goes_left)
            if (after == node).all():
                score: Floats = self.value.take(node).sum(axis=1)
                return score
            node = after


@dataclass(frozen=True, slots=True)
class ByLength:
    """A rising curve for each of some lengths; between lengths a mixture by their logarithms."""

    length_nt: Floats  # (lengths,), ascending
    at: Floats  # (lengths, knots), ascending
    height: Floats  # (lengths, knots), never falling

    def __post_init__(self) -> None:
        if len(self.length_nt) == 0 or self.at.shape != self.height.shape:
            raise ValueError("curves need a length, and a height at each knot")
        rising = (np.diff(self.at) > 0).all() and (np.diff(self.height) >= 0).all()
        if not rising or not (np.diff(self.length_nt) > 0).all():
            raise ValueError("curves must ascend, and so must their lengths")

    def of(self, values: Floats, length_nt: Floats) -> Floats:
        """The height at ``values`` for records of these lengths; constant beyond all knots."""
        heights = np.stack(
            [np.interp(values, at, up) for at, up in zip(self.at, self.height, strict=True)]
        )
        if len(self.length_nt) == 1:
            first: Floats = heights[0]
            return first
        last = len(self.length_nt) - 1
        place = np.interp(np.log(length_nt), np.log(self.length_nt), np.arange(last + 1))
        below = np.minimum(place.astype(np.int64), last - 1)
        share = place - below
        row = np.arange(len(values))
        mixed: Floats = (1 - share) * heights[below, row] + share * heights[below + 1, row]
        return mixed


@dataclass(frozen=True, slots=True)
class Familiarity:
    """How far a record lies from what the model was trained on.

    Its numbers are standardised and turned onto the axes along which those of the training vary;
    their mean square there is the distance. `reliability` is the share of the training's records
    of its length that lie at least as far: near 0 means that nothing like it was seen.
    """

    mean: Floats
    axes: Floats  # (features, axes)
    curve: ByLength  # distance → share of the training's records that are nearer

    def reliability(self, features: Floats, length_nt: Floats) -> Floats:
        """In [0, 1], by record."""
        distance = (((features - self.mean) @ self.axes) ** 2).mean(axis=1)
        reliability: Floats = 1 - self.curve.of(distance, length_nt)
        return reliability


@dataclass(frozen=True, slots=True)
class Reader:
    """The contig model for one reading: rows that are genes, or rows that are frames."""

    columns: int  # of evidence
    logistic: Logistic
    trees: Trees
    calibration: ByLength
    familiarity: Familiarity

    def __post_init__(self) -> None:
        width = feature_count(self.columns)
        widths = {len(self.logistic.mean), len(self.logistic.weight), len(self.familiarity.mean)}
        if widths != {width} or not (self.trees.feature >= 0).all():
            raise ValueError(f"{self.columns} columns of evidence make {width} numbers a record")
        if (self.trees.feature >= width).any():
            raise ValueError("a tree asks for a number that records do not have")

    def score(self, features: Floats) -> Floats:
        """The mean of both models' log-odds, not calibrated."""
        score: Floats = (self.logistic.score(features) + self.trees.score(features)) / 2
        return score


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a contig model says of records, arrays of one length."""

    evidence: Floats  # natural-log likelihood ratio
    reliability: Floats  # in [0, 1]


@dataclass(frozen=True, slots=True)
class ContigModel:
    """Sums over a record's genes → its evidence: log P(sums | virus) / P(sums | others)."""

    readers: Mapping[str, Reader]  # by reading
    viral_models: NDArray[np.int64]  # gene models of the caller that were made for viruses
    regions: RegionModel | None = None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a contig model's file; `ModelSetError` if it is missing, damaged or none."""
        try:
            arrays = load_file(path)
            readings = {name.split(".", 1)[0] for name in arrays} & set(READINGS)
            readers = {of: _read(Reader, _within(arrays, of)) for of in sorted(readings)}
            of_regions = _within(arrays, "regions")
            regions = _read(RegionModel, of_regions) if of_regions else None
            return cls(readers, np.asarray(arrays["viral_models"], np.int64), regions)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError, IndexError) as error:
            raise ModelSetError(f"{path}: not a contig model: {error}") from error

    def save(self, path: Path) -> None:
        """Write the file that `load` reads."""
        arrays = {"viral_models": self.viral_models}
        parts = {**self.readers, **({"regions": self.regions} if self.regions else {})}
        for name, part in parts.items():
            arrays |= _arrays(part, f"{name}.")
        save_file({name: np.ascontiguousarray(v) for name, v in arrays.items()}, path)

    def judge(self, sums: GeneSums, length_nt: Floats, reading: str) -> Verdict:
        """Evidence and reliability of records with genes, or frames, of these sums."""
        reader = self.readers[reading]
        features = contig_features(sums, length_nt)
        evidence = reader.calibration.of(reader.score(features), length_nt)
        return Verdict(evidence, reader.familiarity.reliability(features, length_nt))


def _within(arrays: Arrays, name: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with ``name.``, by the rest of their names."""
    return {key[len(name) + 1 :]: v for key, v in arrays.items() if key.startswith(f"{name}.")}


def _read(kind: type[Part], arrays: Arrays) -> Part:
    """A part from its arrays, and its parts' from theirs; what it has a default for can lack."""
    values: dict[str, Any] = {}
    for name, hint in get_type_hints(kind).items():
        if isinstance(hint, type) and is_dataclass(hint):
            values[name] = _read(hint, _within(arrays, name))
        elif name in arrays:
            values[name] = arrays[name].item() if hint in (int, float) else arrays[name]
    return kind(**values)


def _arrays(part: Any, prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays of a part and of its parts, by their places: as `_read` takes them."""
    arrays: dict[str, NDArray[Any]] = {}
    for name in (field.name for field in fields(part)):
        value = getattr(part, name)
        inner = _arrays(value, f"{prefix}{name}.") if is_dataclass(value) else None
        arrays |= inner or {prefix + name: np.atleast_1d(value)}
    return arrays
