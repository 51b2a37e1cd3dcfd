"""What differs between two model sets, by its place in their manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from virnuc_dask.modelsets.manifest import ModelSetInfo, read_info
from virnuc_dask.modelsets.sizes import weight_values


def compare(ours: Path, theirs: Path) -> dict[str, Any]:
    """``same``: whether features, predictions and calls are; ``differences``: place to both values.

    None is for what one does not have. ``sizes`` are values and bytes of each weight file. A set
    whose features are the same can score what was stored for the other.
    """
    infos = [read_info(folder) for folder in (ours, theirs)]
    checksums: dict[str, list[str | None]] = {
        "features": [info.encoders_checksum for info in infos],
        "predictions": [info.checksum for info in infos],
        "calls": [info.calls_checksum for info in infos],
    }
    a, b = (dict(_flat("", _content(f, i))) for f, i in zip((ours, theirs), infos, strict=True))
    return {
        "same": {what: one == other for what, (one, other) in checksums.items()},
        "differences": {
            place: [a.get(place), b.get(place)] for place in a | b if a.get(place) != b.get(place)
        },
    }


def _content(folder: Path, info: ModelSetInfo) -> dict[str, Any]:
    paths = [folder / part.file for part in (info.nucleotide, info.peptide, info.classifier)]
    sizes = {p.name: {"values": weight_values(p), "bytes": p.stat().st_size} for p in paths}
    return asdict(info) | {"sizes": sizes}


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{place}.{key}" if place else str(key), inner)
    else:
        yield place, value
