"""ESM-2's tokens: those of fair-esm's alphabet ESM-1b, in its order.

https://github.com/facebookresearch/esm/blob/v2.0.0/esm/data.py; tests/encoders/test_esm2.py
compares them with it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BEGIN, _END, _UNKNOWN = "<cls>", "<eos>", "<unk>"
TOKENS = (_BEGIN, "<pad>", _END, _UNKNOWN, *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
"""A token's number is its place here."""


def token_ids(peptide: str) -> NDArray[np.int64]:
    """Token ids with begin and end, shape (len(peptide) + 2); an unknown letter is ``<unk>``."""
    letters = np.frombuffer(peptide.encode("ascii", "replace"), np.uint8)
    return np.concatenate([[TOKENS.index(_BEGIN)], _OF_BYTE[letters], [TOKENS.index(_END)]])


def _of_byte() -> NDArray[np.int64]:
    places = {ord(token): place for place, token in enumerate(TOKENS) if len(token) == 1}
    return np.array([places.get(byte, TOKENS.index(_UNKNOWN)) for byte in range(256)], np.int64)


_OF_BYTE = _of_byte()
