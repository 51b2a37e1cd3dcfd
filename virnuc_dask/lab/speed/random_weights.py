"""Encoders of real sizes with random weights: speed does not depend on what a weight says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import BpeTrainer
from torch import nn

from virnuc_dask.encoders.attention import inverse_frequencies
from virnuc_dask.encoders.cost import ESM2
from virnuc_dask.encoders.dnabert_s import DnabertSModule, DnabertSSizes
from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.encoders.esm2 import Esm2Module, Esm2Sizes
from virnuc_dask.lab.speed.metagenome import draw_frames
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.manifest import ClassifierSpec, ModelSetInfo, write_info

ESM2_SIZES = {name: Esm2Sizes(*sizes) for name, sizes in ESM2.items()}
# The published DNABERT-S, and one that is to it what ESM-2 8M is to 3B.
DNABERT_S_SIZES = {
    "117M": DnabertSSizes(12, 768, 12, 3072, 4096),
    "small": DnabertSSizes(4, 256, 4, 1024, 4096),
}
_SPREAD = 0.02  # of random weights, as BERT's
# Of the published tokenizer, in its order: Zhou et al. 2024, https://arxiv.org/abs/2306.15006.
SPECIAL_TOKENS = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
_TOKENIZER_FRAMES, _TOKENIZER_LENGTH = 1000, 500

Module = TypeVar("Module", bound=nn.Module)


def write_esm2(sizes: Esm2Sizes, folder: Path, seed: int = 1) -> EncoderSpec:
    """Write a random ESM-2 as ``peptide.safetensors``."""
    module = _draw(Esm2Module(sizes), seed)
    module.inverse_frequencies = inverse_frequencies(sizes.embed_dim // sizes.heads)
    save_file(module.state_dict(), folder / "peptide.safetensors")
    return EncoderSpec("esm2", sizes.embed_dim, "peptide.safetensors", asdict(sizes))


def write_dnabert_s(sizes: DnabertSSizes, folder: Path, seed: int = 1) -> EncoderSpec:
    """Write a random DNABERT-S as ``nucleotide.safetensors``, and a tokenizer.

    The tokenizer is learnt from random genes: with the published vocabulary's 4,096 tokens it has
    about as many bases a token as the published one.
    """
    frames = draw_frames(_TOKENIZER_FRAMES, _TOKENIZER_LENGTH, seed)
    tokenizer = learn_tokenizer([frame.dna for frame in frames], sizes.vocabulary)
    tokenizer.save(str(folder / "tokenizer.json"))
    module = _draw(DnabertSModule(sizes), seed)
    save_file(module.state_dict(), folder / "nucleotide.safetensors")
    return EncoderSpec(
        "dnabert_s", sizes.embed_dim, "nucleotide.safetensors", asdict(sizes), "tokenizer.json"
    )


def learn_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Learn a byte-pair tokenizer for upper-case DNA, laid out as the published one of DNABERT-S.

    ``vocabulary`` counts the special tokens too; texts with little variety give fewer.
    """
    tokenizer = Tokenizer(BPE(unk_token="[UNK]"))
    # Not read by mypy: tokenizers sets these properties in Rust.
    tokenizer.pre_tokenizer = Whitespace()
    letters = list("ACGNT")
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return tokenizer


def write_modelset(folder: Path, dnabert_s: DnabertSSizes, esm2: Esm2Sizes) -> ModelSetInfo:
    """Write a whole model set of random weights: right in every size, and useless."""
    folder.mkdir(parents=True, exist_ok=True)
    nucleotide, peptide = write_dnabert_s(dnabert_s, folder), write_esm2(esm2, folder)
    classifier = _draw(Classifier(nucleotide.dim + peptide.dim, 512), seed=1)
    save_file(classifier.state_dict(), folder / "classifier.safetensors")
    info = ModelSetInfo(
        name=folder.name,
        version="random",
        chunk_lengths=(500, 300),
        nucleotide=nucleotide,
        peptide=peptide,
        classifier=ClassifierSpec("classifier.safetensors", 512),
        licence="none needed",
        training_data="none: random weights, for measuring speed",
    )
    return write_info(folder, info)


def _draw(module: Module, seed: int) -> Module:
    """Matrices random, scales one, everything else zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.ndim > 1:
                weight.normal_(0, _SPREAD, generator=generator)
            else:
                weight.fill_(float(name.endswith("norm.weight")))
    return module
