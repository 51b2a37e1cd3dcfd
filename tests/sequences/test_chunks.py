import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from virnuc_dask.sequences.chunks import Chunks, Pieces, chunk_spans


def published_spans(length: int, chunk: int) -> list[tuple[int, int]]:
    """The published rule, word for word: n, rep, lo, need, and a list of back-offs."""
    n = 0
    while n * chunk < length:
        n += 1
    if n == 0:
        return []
    rep = n * chunk - length
    lo = rep // n
    need = rep - lo * (n - 1)
    back_offs = [lo + 1 if step < min(need, n - 1) else lo for step in range(n - 1)]
    spans = []
    for k in range(1, n + 1):
        start = (k - 1) * chunk - sum(back_offs[: k - 1])
        spans.append((start, min(start + chunk, length)))
    return spans


@pytest.mark.parametrize("chunk", [300, 500])
def test_every_record_length_is_cut_by_the_published_rule(chunk):
    for length in range(3001):
        expected = published_spans(length, chunk)
        assert list(chunk_spans(length, chunk)) == spans_of(Chunks(chunk), length) == expected
        assert [end - start for start, end in expected] == list(Chunks(chunk).sizes(length))


def spans_of(cutting, length_nt):
    step = np.arange(cutting.count(length_nt))
    starts, ends = cutting.spans(np.full_like(step, length_nt), step)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


@st.composite
def cut_records(draw):
    longest = draw(st.integers(2, 60))
    pieces = Pieces(longest, draw(st.integers(1, longest - 1)))
    return pieces, draw(st.integers(0, 400))


@given(cut_records())
@example((Pieces(10, 4), 10))
@example((Pieces(10, 4), 4))
@example((Pieces(10, 4), 0))
@example((Pieces(11, 5), 17))
def test_pieces_cover_a_record_their_cores_tile_it_and_the_last_alone_is_short(given_):
    pieces, length_nt = given_
    spans = spans_of(pieces, length_nt)
    assert [end - start for start, end in spans] == list(pieces.sizes(length_nt))
    if not length_nt:
        assert spans == []
        return
    stride_nt = pieces.length_nt - pieces.overlap_nt
    assert [start for start, _ in spans] == [k * stride_nt for k in range(len(spans))]
    start, end = np.array(spans).T
    assert set((end - start)[:-1].tolist()) <= {pieces.length_nt}
    assert end[-1] - start[-1] < pieces.length_nt
    assert end[-1] == length_nt
    first, last = (edge.tolist() for edge in pieces.core(start, end))
    assert first[0] == 0
    assert last[-1] == length_nt
    assert first[1:] == last[:-1], "nothing is in two cores, nothing in none"
    assert all(begin < stop for begin, stop in zip(first, last, strict=True))
    assert (np.array(first) >= start).all()
    assert (np.array(last) <= end).all()


@pytest.mark.parametrize("overlap_nt", [0, 200, 300])
def test_pieces_must_overlap_and_go_on(overlap_nt):
    with pytest.raises(ValueError, match="pieces of 200 nt cannot share"):
        Pieces(200, overlap_nt)
