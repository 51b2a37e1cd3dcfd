import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from virnuc_dask.encoders.batching import embed_in_batches, exact_length_batches


@given(st.lists(st.integers(0, 30), max_size=60), st.integers(1, 100))
def test_batches_have_one_length_and_cover_every_text_once(lengths, max_tokens):
    batches = list(exact_length_batches(lengths, max_tokens))
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        (length,) = {lengths[row] for row in batch}
        assert len(batch) == 1 or len(batch) * length <= max_tokens


class SmallDevice:
    """Embeds a text as its sum and its length, and runs out of memory above ``capacity``."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.sizes: list[int] = []

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        if tokens.numel() > self.capacity:
            raise torch.OutOfMemoryError
        self.sizes.append(tokens.numel())
        lengths = torch.full((len(tokens),), tokens.shape[1])
        return torch.stack([tokens.sum(1), lengths], 1).float()


@pytest.fixture
def tokens():
    rng = np.random.default_rng(7)
    return [rng.integers(0, 33, size) for size in rng.integers(1, 9, 50)]


def test_embeddings_keep_the_order_of_the_texts(tokens):
    embeddings = embed_in_batches(tokens, SmallDevice(10**6), dim=2, max_tokens=24)
    assert embeddings.dtype == np.float32
    assert embeddings.tolist() == [[text.sum(), len(text)] for text in tokens]


def test_a_batch_that_does_not_fit_is_halved_and_gives_the_same(tokens):
    small, large = SmallDevice(10), SmallDevice(10**6)
    halved = embed_in_batches(tokens, small, dim=2, max_tokens=64)
    assert np.array_equal(halved, embed_in_batches(tokens, large, dim=2, max_tokens=64))
    assert max(small.sizes) <= 10 < max(large.sizes)


def test_a_single_text_that_does_not_fit_is_an_error(tokens):
    with pytest.raises(torch.OutOfMemoryError):
        embed_in_batches(tokens, SmallDevice(5), dim=2, max_tokens=64)
