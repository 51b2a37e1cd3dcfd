"""Learns a byte-pair tokenizer for DNA, as DNABERT-2 has one.

Special tokens, their order and the ``[CLS]`` … ``[SEP]`` around every text are those of the
published tokenizer (Zhou et al. 2024, https://arxiv.org/abs/2306.15006), so that
`virnuc_dask.encoders.dnabert_s` reads the one as the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer

UNKNOWN, BEGIN, END, PADDING, MASK = SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
_PARALLEL = "TOKENIZERS_PARALLELISM"
_LETTERS = ("A", "C", "G", "N", "T")


def learn_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Learn the most frequent pairs of tokens, again and again, until there are enough tokens.

    The same texts in the same order always give the same tokenizer.

    Parameters
    ----------
    texts
        Upper-case DNA. Letters other than A, C, G, N, T become ``[UNK]``.
    vocabulary
        Tokens, the special ones included. Texts with little variety give fewer.
    """
    tokenizer = Tokenizer(BPE(unk_token=UNKNOWN))
    # Not read by mypy: tokenizers sets these properties in Rust.
    tokenizer.pre_tokenizer = Whitespace()
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=list(_LETTERS),
        limit_alphabet=len(_LETTERS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    around = [(token, SPECIAL_TOKENS.index(token)) for token in (BEGIN, END)]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BEGIN} $A {END}", pair=f"{BEGIN} $A {END} $B:1 {END}:1", special_tokens=around
    )
    return tokenizer


@contextmanager
def tokenizing_in_parallel() -> Iterator[None]:
    """Let tokenizers use all cores, as a GPU's training needs; a run's workers share them out."""
    before = os.environ.get(_PARALLEL, "false")
    os.environ[_PARALLEL] = "true"
    try:
        yield
    finally:
        os.environ[_PARALLEL] = before
