"""What differs between two model sets, by its place in their manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from textwrap import shorten
from typing import Any

from virnuc_dask.modelsets.manifest import read_info
from virnuc_dask.modelsets.sizes import weight_values

_SHOWN = 60  # letters of a value, for people


def compare(ours: Path, theirs: Path) -> dict[str, Any]:
    """``same``: whether features, predictions and calls are; ``differences``: place to both values.

    None is for what one does not have. A set whose features are the same can score what was stored
    for the other.
    """
    infos = read_info(ours), read_info(theirs)
    checksums = ((i.encoders_checksum, i.checksum, i.calls_checksum) for i in infos)
    same = {
        what: a == b
        for what, a, b in zip(("features", "predictions", "calls"), *checksums, strict=True)
    }
    a, b = (
        dict(_flat("", asdict(info) | {"sizes": _sizes(folder)}))
        for folder, info in zip((ours, theirs), infos, strict=True)
    )
    places = [place for place in a | b if a.get(place) != b.get(place)]
    return {"same": same, "differences": {place: [a.get(place), b.get(place)] for place in places}}


def comparison_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """`compare` for people."""
    for what, same in found["same"].items():
        yield f"{what:<12}{'the same' if same else 'others'}"
    for place, values in found["differences"].items():
        ours, theirs = (shorten(_text(value), _SHOWN, placeholder=" ...") for value in values)
        yield f"{place}\n  < {ours}\n  > {theirs}"


def _sizes(folder: Path) -> dict[str, dict[str, int]]:
    """Of each weight file: the values it holds, and its bytes."""
    info = read_info(folder)
    files = (part.file for part in (info.nucleotide, info.peptide, info.classifier))
    paths = [folder / file for file in files]
    return {
        path.name: {"values": weight_values(path), "bytes": path.stat().st_size} for path in paths
    }


def _flat(place: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{place}.{key}" if place else str(key), inner)
    else:
        yield place, value


def _text(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)
