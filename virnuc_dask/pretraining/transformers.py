"""Trains a small DNABERT-S and a small ESM-2 on frames, and writes them as a model set's encoders.

Both learn by masked modelling, no labels needed. The classifier on top comes from
``python -m virnuc_dask train``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from safetensors.torch import save
from tokenizers import Tokenizer

from virnuc_dask.encoders.attention import inverse_frequencies
from virnuc_dask.encoders.dnabert_s import DnabertSModule, DnabertSSizes, read_tokenizer
from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.encoders.esm2 import ALPHABET, Esm2Module, Esm2Sizes, token_ids
from virnuc_dask.errors import BadInputError, ModelSetError, PlanChangedError
from virnuc_dask.modelsets.environment import prepare_torch
from virnuc_dask.pretraining.masked import MaskedNetwork, MaskedTraining, as_dict, initialise
from virnuc_dask.pretraining.masking import IntArray, Language, MaskedTexts
from virnuc_dask.pretraining.tokenizer import (
    MASK,
    SPECIAL_TOKENS,
    learn_tokenizer,
    tokenizing_in_parallel,
)
from virnuc_dask.pretraining.transformer_recipe import ADJUSTABLE, TransformerRecipe
from virnuc_dask.sequences.frames import Frame
from virnuc_dask.tables.parquet import write_text, written_whole

# The folder, within that of the encoders, for what only a training needs; it may be deleted after.
STATE = "pretraining"
_PLAN, _FIGURES, _TOKENIZER = "plan.json", "figures.json", "tokenizer.json"
_NUCLEOTIDE, _PEPTIDE, _TOKENIZER_SAMPLE = 0, 1, 2

Module = TypeVar("Module", Esm2Module, DnabertSModule)


class FrameSource(Protocol):
    """Where frames come from.

    ``fingerprint`` changes with anything that changes the frames; ``validation`` frames are never
    drawn. `draw` may be called from another thread, but never twice at once.
    """

    @property
    def fingerprint(self) -> str:
        """A text that stands for the data and the way it is drawn."""
        ...

    @property
    def validation(self) -> Sequence[Frame]:
        """Frames on which the masked loss is measured; may be none."""
        ...

    def draw(self, rng: np.random.Generator) -> Sequence[Frame]:
        """A fresh sample, a function of ``rng`` alone: the frames of one round."""
        ...


def pretrain_encoders(
    source: FrameSource, recipe: TransformerRecipe, folder: Path, log: logging.Logger
) -> tuple[EncoderSpec, EncoderSpec]:
    """Train both encoders and write their weights and the tokenizer into ``folder``.

    Started again with the same source and recipe it goes on where it was; what is done is not
    done again. The masked losses are in `read_figures`.

    Returns
    -------
    EncoderSpec, EncoderSpec
        The nucleotide encoder's and the peptide encoder's.

    Raises
    ------
    PlanChangedError
        If ``folder`` holds a training of another source or recipe.
    BadInputError
        If the source has no frames.
    ModelSetError
        If a file of the training is damaged.
    """
    prepare_torch()
    (folder / STATE).mkdir(parents=True, exist_ok=True)
    _check_plan(folder / STATE / _PLAN, source, recipe)
    nucleotide = _pretrain_dnabert_s(source, recipe, folder, log)
    return nucleotide, _pretrain_esm2(source, recipe, folder, log)


def read_figures(folder: Path) -> dict[str, Any]:
    """Steps, tokens and masked validation losses of the encoders trained in ``folder``."""
    path = folder / STATE / _FIGURES
    return _read_notes(path) if path.exists() else {}


def _pretrain_dnabert_s(
    source: FrameSource, recipe: TransformerRecipe, folder: Path, log: logging.Logger
) -> EncoderSpec:
    learnt = folder / STATE / _TOKENIZER
    if not learnt.exists():
        tokenizer = learn_tokenizer(_tokenizer_sample(source, recipe), recipe.vocabulary)
        write_text(learnt, tokenizer.to_str(pretty=True))
        log.info("tokenizer: %d tokens", tokenizer.get_vocab_size())
    tokenizer = read_tokenizer(learnt)
    sizes = DnabertSSizes(
        layers=recipe.nucleotide.layers,
        embed_dim=recipe.nucleotide.dim,
        heads=recipe.nucleotide.heads,
        mlp_dim=4 * recipe.nucleotide.dim,
        vocabulary=tokenizer.get_vocab_size(),
    )
    texts = MaskedTexts(
        draw=lambda rng: [frame.dna for frame in source.draw(rng)],
        validation=[frame.dna for frame in source.validation],
        language=dna_language(tokenizer),
        batch_tokens=recipe.batch_tokens,
        mask_share=recipe.mask_share,
        seed=(recipe.seed, _NUCLEOTIDE),
    )
    file = "nucleotide.safetensors"
    with tokenizing_in_parallel():
        _train(lambda: DnabertSModule(sizes), texts, recipe, folder / file, log)
    write_text(folder / _TOKENIZER, learnt.read_text(encoding="utf-8"))
    return EncoderSpec("dnabert_s", sizes.embed_dim, file, asdict(sizes), _TOKENIZER)


def _pretrain_esm2(
    source: FrameSource, recipe: TransformerRecipe, folder: Path, log: logging.Logger
) -> EncoderSpec:
    # Hidden tokens are shown as the mask, not as zeros, so there is nothing to make up for later.
    sizes = Esm2Sizes(
        layers=recipe.peptide.layers,
        embed_dim=recipe.peptide.dim,
        heads=recipe.peptide.heads,
        token_dropout=False,
    )
    texts = MaskedTexts(
        draw=lambda rng: [frame.peptide for frame in source.draw(rng)],
        validation=[frame.peptide for frame in source.validation],
        language=peptide_language(),
        batch_tokens=recipe.batch_tokens,
        mask_share=recipe.mask_share,
        seed=(recipe.seed, _PEPTIDE),
    )
    file = "peptide.safetensors"
    _train(lambda: Esm2Module(sizes), texts, recipe, folder / file, log)
    return EncoderSpec("esm2", sizes.embed_dim, file, asdict(sizes))


def dna_language(tokenizer: Tokenizer) -> Language:
    """DNA in the tokens of ``tokenizer``."""

    def encode(texts: Sequence[str]) -> list[IntArray]:
        found = tokenizer.encode_batch_fast(list(texts))
        return [np.array(encoding.ids, np.int64) for encoding in found]

    ordinary = range(len(SPECIAL_TOKENS), tokenizer.get_vocab_size())
    return Language(encode, SPECIAL_TOKENS.index(MASK), ordinary)


def peptide_language() -> Language:
    """Peptides in ESM-2's tokens; the twenty amino acids stand together among them."""
    amino_acids = sorted(ALPHABET.get_idx(letter) for letter in "ACDEFGHIKLMNPQRSTVWY")
    return Language(
        lambda texts: [token_ids(text) for text in texts],
        ALPHABET.mask_idx,
        range(amino_acids[0], amino_acids[-1] + 1),
    )


def _tokenizer_sample(source: FrameSource, recipe: TransformerRecipe) -> list[str]:
    """DNA of frames drawn for the tokenizer, at least ``tokenizer_nt`` in all."""
    rng = np.random.default_rng((recipe.seed, _TOKENIZER_SAMPLE))
    texts: list[str] = []
    length_nt = 0
    while length_nt < recipe.tokenizer_nt:
        drawn = [frame.dna for frame in source.draw(rng)]
        if not any(drawn):
            raise BadInputError("no frame was drawn: the training data is empty.")
        texts += drawn
        length_nt += sum(map(len, drawn))
    ends = np.cumsum([len(text) for text in texts])
    return texts[: int(np.searchsorted(ends, recipe.tokenizer_nt)) + 1]


def _train(
    build: Callable[[], Module],
    texts: MaskedTexts,
    recipe: TransformerRecipe,
    target: Path,
    log: logging.Logger,
) -> None:
    """Train the module that ``build`` makes and write its weights to ``target``."""
    state = target.parent / STATE
    training = MaskedTraining(
        new_network(build, recipe.seed), texts, recipe, state / target.name, log
    )
    figures = training.run()
    encoder = training.network.encoder
    weights = {name: t.detach().cpu().contiguous() for name, t in encoder.state_dict().items()}
    with written_whole(target) as stream:
        stream.write(save(weights))
    known = read_figures(target.parent)
    known[training.name] = as_dict(figures)
    write_text(state / _FIGURES, json.dumps(known, indent=2) + "\n")


def new_network(build: Callable[[], Module], seed: int) -> MaskedNetwork:
    """A network of random weights, a function of ``seed``; torch's own seed is left alone."""
    with torch.device("meta"):
        network = MaskedNetwork(build())
    network = network.to_empty(device="cpu")
    initialise(network, seed)
    encoder = network.encoder
    if isinstance(encoder, Esm2Module):
        head_dim = encoder.sizes.embed_dim // encoder.sizes.heads
        encoder.inverse_frequencies.copy_(inverse_frequencies(head_dim))
    return network


def _check_plan(path: Path, source: FrameSource, recipe: TransformerRecipe) -> None:
    """Write down what is trained from what, or make sure that it is what was begun."""
    settings = {k: v for k, v in asdict(recipe).items() if k not in ADJUSTABLE}
    plan = {"source": source.fingerprint, **settings}
    if not path.exists():
        write_text(path, json.dumps(plan, indent=2) + "\n")
        return
    begun = _read_notes(path)
    changed = sorted(key for key in plan.keys() | begun if plan.get(key) != begun.get(key))
    if changed:
        what = "; ".join(f"{key}: {begun.get(key)}, now {plan.get(key)}" for key in changed)
        raise PlanChangedError(
            f"{path.parent}: holds a training with other settings or data ({what}). Go on with "
            "the same ones, or choose another folder."
        )


def _read_notes(path: Path) -> dict[str, Any]:
    try:
        notes = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(notes, dict):
            raise TypeError("no JSON object")
    except (OSError, ValueError, TypeError) as error:
        raise ModelSetError(
            f"{path}: damaged ({error}). Delete its folder and train again."
        ) from error
    return notes
