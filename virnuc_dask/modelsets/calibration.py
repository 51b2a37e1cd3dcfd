"""A model set's calibration: where its contig scores divide viruses from others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Calibration:
    """Contigs are called virus from a score of ``contig_threshold`` on; ``method`` chose it."""

    contig_threshold: float = 0.5
    method: str = "none"

    def __post_init__(self) -> None:
        # False for NaN, too.
        if not 0 < self.contig_threshold < 1:
            raise ValueError(
                f"calibration: contig_threshold is {self.contig_threshold}; it must lie between "
                "0 and 1."
            )

    @classmethod
    def of(cls, content: Mapping[str, Any] | None) -> Self:
        """Check the ``calibration`` of a ``modelset.json``; None is one half, by no method.

        Raises
        ------
        ValueError, TypeError
            If a key is unknown or missing, or a value is not what it must be.
        """
        if content is None:
            return cls()
        if not isinstance(content, Mapping):
            raise TypeError(f"calibration: is {content!r}, not an object.")
        names = {field.name for field in fields(cls)}
        for problem, keys in (("unknown", set(content) - names), ("no", names - set(content))):
            if keys:
                raise ValueError(f"calibration: {problem} {', '.join(sorted(map(str, keys)))}.")
        threshold, method = content["contig_threshold"], content["method"]
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise TypeError(f"calibration: contig_threshold is {threshold!r}, not a number.")
        if not isinstance(method, str):
            raise TypeError(f"calibration: method is {method!r}, not a text.")
        return cls(float(threshold), method)
