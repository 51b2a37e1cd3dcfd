"""What differs between two model sets, by its place in their manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from virnuc_dask.modelsets.manifest import read_info
from virnuc_dask.modelsets.sizes import weight_values


def compare(ours: Path, theirs: Path) -> dict[str, Any]:
    """``same``: whether features, predictions and calls are; ``differences``: place to both values.

    None is for what one does not have. ``sizes`` are values and bytes of each weight file. A set
    whose features are the same can score what was stored for the other.
    """
    infos = read_info(ours), read_info(theirs)
    checksums = ((i.encoders_checksum, i.checksum, i.calls_checksum) for i in infos)
    names = "features", "predictions", "calls"
    same = {name: a == b for name, a, b in zip(names, *checksums, strict=True)}
    a, b = (dict(_flat("", _content(folder))) for folder in (ours, theirs))
    different = {place: [a.get(place), b.get(place)] for place in a | b}
    return {"same": same, "differences": {k: v for k, v in different.items() if v[0] != v[1]}}


def _content(folder: Path) -> dict[str, Any]:
    info = read_info(folder)
    paths = [folder / part.file for part in (info.nucleotide, info.peptide, info.classifier)]
    sizes = {p.name: {"values": weight_values(p), "bytes": p.stat().st_size} for p in paths}
    return asdict(info) | {"sizes": sizes}


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{place}.{key}" if place else str(key), inner)
    else:
        yield place, value
