import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from virnuc_dask.encoders.encoder import Placement
from virnuc_dask.modelsets import modelset
from virnuc_dask.modelsets.manifest import read_info
from virnuc_dask.modelsets.memory_sharing import EncoderPair, Memory, load_pair
from virnuc_dask.modelsets.modelset import load
from virnuc_dask.modelsets.source import ModelSource

DNA, PEPTIDES = ["ACGTACGTACGTA", "GGGTTTAAACCCG"], ["MKV", "ACDEF"]


@pytest.fixture
def load_with(parity_modelset: Path):
    info = read_info(parity_modelset)
    specs = info.nucleotide, info.peptide

    def load(memory: Memory, on_load=None) -> EncoderPair:
        return load_pair(specs, parity_modelset, Placement(), memory, on_load)

    return load


@pytest.fixture
def both(load_with) -> EncoderPair:
    return load_with(Memory())


def embed(pair: EncoderPair) -> list[np.ndarray]:
    texts = zip(pair.encoders, (DNA, PEPTIDES), strict=True)
    return [encoder.embed_tokens(encoder.tokenise(given)) for encoder, given in texts]


def test_both_encoders_stay_where_they_and_a_batch_fit_or_as_is_set(load_with, both):
    weights = sum(encoder.weight_bytes for encoder in both.encoders)
    plenty = load_with(Memory(free_bytes=weights + 10**9))
    assert plenty.residency == both.residency == "both encoders in memory"
    tight = load_with(Memory(free_bytes=weights))
    assert tight.residency.startswith("one encoder in memory at a time (both need 0.")
    assert load_with(Memory("together", free_bytes=0)).residency == both.residency
    forced = load_with(Memory("in_turn", free_bytes=10**12))
    assert forced.residency == "one encoder in memory at a time (as set)"


def test_in_turn_they_embed_the_same_bytes(load_with, both):
    in_turn = load_with(Memory(free_bytes=0))
    for _ in range(2):
        for ours, theirs in zip(embed(in_turn), embed(both), strict=True):
            assert ours.tobytes() == theirs.tobytes()
    for encoder, stays in zip(in_turn.encoders, both.encoders, strict=True):
        assert encoder.dim == stays.dim
        assert encoder.weight_bytes == pytest.approx(stays.weight_bytes, rel=0.01)
    peptides = in_turn.encoders[1].embed(PEPTIDES)
    assert peptides.tobytes() == both.encoders[1].embed(PEPTIDES).tobytes()


def test_an_encoder_is_loaded_when_it_is_wanted_and_gone_when_the_other_is(load_with):
    told = []
    pair = load_with(Memory("in_turn"), on_load=lambda name, _: told.append(name))
    nucleotide, peptide = pair.encoders
    assert told == []
    nucleotide.embed_tokens(DNA)
    nucleotide.embed_tokens(DNA)
    assert told == ["dnabert_s"]
    seated = weakref.ref(nucleotide._place._loaded[1])
    peptide.embed_tokens(PEPTIDES)
    assert told == ["dnabert_s", "esm2"]
    gc.collect()
    assert seated() is None


def test_a_gpus_free_memory_decides(parity_modelset, monkeypatch):
    """The whole way from a source, with what a GPU would answer."""
    source = ModelSource.of(str(parity_modelset), read_info(parity_modelset), device="cpu")
    for free, start in ((None, "both"), (10**12, "both"), (1000, "one encoder")):
        monkeypatch.setattr(modelset, "free_bytes", lambda *_, free=free: free)
        models = load(source)
        assert models.residency.startswith(start)
        features = models.encoders[0].embed(DNA), models.encoders[1].embed(PEPTIDES)
        assert [len(part) for part in features] == [2, 2]
