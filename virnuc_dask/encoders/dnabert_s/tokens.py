"""DNABERT-S's tokens: byte pairs, read from a ``tokenizer.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from virnuc_dask.errors import ModelSetError

_BEGIN, _END = "[CLS]", "[SEP]"
_LARGEST_TOKENIZER = 1 << 26  # bytes
_MODEL_KEYS = {"type", "vocab", "merges", "unk_token"}
_TOKENIZER_PARTS = {
    "normalizer": (None,),
    "pre_tokenizer": (None, "Whitespace", "WhitespaceSplit"),
    "model": ("BPE",),
    "post_processor": ("TemplateProcessing",),
}


def read_tokenizer(path: Path) -> Tokenizer:
    """Read a ``tokenizer.json``; texts are neither cut nor padded, whatever it says.

    Of the file only what a tokenizer of DNA is made of is used: byte pairs, between ``[CLS]`` and
    ``[SEP]``. Other parts hold patterns, and a pattern can be such that one text takes for ever.

    Raises
    ------
    ModelSetError
        If the file is missing, is no tokenizer, or has other parts.
    """
    # Batches are split over a few dask threads already; and only when this is set does the
    # tokenizer not print warnings in processes that fork later.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        if path.stat().st_size > _LARGEST_TOKENIZER:
            raise ValueError("too large for a tokenizer of DNA")
        content = json.loads(path.read_text(encoding="utf-8"))
        _check_parts(content)
        tokenizer = _built(content)
        around = [(token, tokenizer.token_to_id(token)) for token in (_BEGIN, _END)]
        tokenizer.post_processor = TemplateProcessing(f"{_BEGIN} $A {_END}", special_tokens=around)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelSetError(
            f"{path}: not a tokenizer of DNA ({error}). Import or download the model set again."
        ) from error
    return tokenizer


def _built(content: dict[str, Any]) -> Tokenizer:
    """The tokenizer of these parts, without those that are not used; or a `ValueError`."""
    unused = dict.fromkeys(("decoder", "padding", "post_processor", "truncation"))
    try:
        return Tokenizer.from_str(json.dumps(content | unused))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(str(error)) from error


def _check_parts(content: Mapping[str, Any]) -> None:
    """Refuse, by a `ValueError`, parts that a tokenizer of DNA does not have."""
    for part, kinds in _TOKENIZER_PARTS.items():
        kind = (content.get(part) or {}).get("type")
        if kind not in kinds:
            raise ValueError(f"its {part} is {kind!r}")
    # Published tokenizers have none of these; dropout would make results random, a prefix that
    # does not fit the merges crashes the library.
    if set_here := [key for key, v in content["model"].items() if v and key not in _MODEL_KEYS]:
        raise ValueError(f"its model has a {set_here[0]}")
    vocabulary, merges = content["model"]["vocab"], content["model"]["merges"]
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    if any("".join(pair) not in vocabulary for pair in pairs):  # crashes the library too
        raise ValueError("it merges tokens to what is none")
    template = content["post_processor"]["single"]
    if [piece["id"] for place in template for piece in place.values()] != [_BEGIN, "A", _END]:
        raise ValueError("it does not put a text between [CLS] and [SEP]")
