import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from virnuc_dask.encoders.ngrams import dna_bags, peptide_bags
from virnuc_dask.errors import BadInputError
from virnuc_dask.pretraining import windows as module
from virnuc_dask.pretraining.genes import GENOME, OTHER, TRANSCRIPT, VIRUS, Gene
from virnuc_dask.pretraining.windows import (
    LONGEST_NT,
    SHORTEST_NT,
    WindowSource,
    codes_of,
    open_frames,
    pack,
)
from virnuc_dask.sequences.frames import find_frames

BASES = np.frombuffer(b"ACGT", np.uint8)


def text_of(codes) -> str:
    return BASES[codes].tobytes().decode()


def drawn_windows(length, count=200):
    """Half of them random, half with few T, so that many frames are open."""
    rng = np.random.default_rng(length)
    windows = rng.integers(0, 4, (count, length)).astype(np.uint8)
    few = (rng.random(windows.shape) < 0.8) & (np.arange(count) % 2 == 0)[:, None]
    return np.where(few, np.minimum(windows, 2), windows)


@pytest.mark.parametrize("length", [200, 201, 299, 300, 301, 302, 500])
def test_packed_windows_have_the_frames_and_ngrams_of_a_run(length):
    windows = drawn_windows(length)
    found = find_frames([text_of(window) for window in windows])
    counts = [len(frames) for frames in found]
    assert 0 in counts
    assert max(counts) > 1
    labels = np.arange(len(windows))
    samples, kept = pack(windows, labels)
    assert kept.tolist() == [index for index, count in enumerate(counts) if count]
    assert samples.labels.tolist() == kept.tolist()
    assert torch.bincount(samples.chunk_of_frame).tolist() == [n for n in counts if n]
    assert (torch.diff(samples.chunk_of_frame) >= 0).all()
    frames = [frame for of_window in found for frame in of_window]
    expected = dna_bags([frame.dna for frame in frames])
    expected |= peptide_bags([frame.peptide for frame in frames])
    assert set(samples.bags) == set(expected)
    for name, bags in expected.items():
        assert torch.equal(samples.bags[name].ids, bags.ids)
        assert torch.equal(samples.bags[name].ends, bags.ends)


def test_open_frames_are_those_of_a_run_padded():
    windows = drawn_windows(301, 40)
    frames, window_of = open_frames(windows)
    found = find_frames([text_of(window) for window in windows])
    expected = [(n, frame.dna) for n, of_window in enumerate(found) for frame in of_window]
    assert frames.shape == (len(expected), 301)
    dna = [text_of(frame[frame < 4]) for frame in frames]
    assert list(zip(window_of.tolist(), dna, strict=True)) == expected


def test_thinning_leaves_out_a_share_of_the_ngrams_and_no_frame():
    samples, _ = pack(drawn_windows(300), np.zeros(200, np.int64))
    thinned = samples.thinned(0.3, torch.Generator().manual_seed(0))
    assert torch.equal(thinned.chunk_of_frame, samples.chunk_of_frame)
    for name, bags in samples.bags.items():
        assert len(thinned.bags[name]) == len(bags)
        assert len(thinned.bags[name].ids) / len(bags.ids) == pytest.approx(0.7, abs=0.03)
    same = samples.thinned(0.0, torch.Generator())
    assert torch.equal(same.bags["codons"].ids, samples.bags["codons"].ids)


def test_chunks_with_an_ambiguous_base_are_left_out():
    codes, clear = codes_of(["ACGT", "ACNT", "TTTT", "acgt"])
    assert codes.tolist() == [[0, 1, 2, 3], [3, 3, 3, 3]]
    assert clear.tolist() == [0, 2]
    assert codes_of([])[0].shape == (0, 0)


@pytest.fixture(scope="module")
def genes(make_genes):
    """Training genes of all kinds, each kind's of a style or length of its own."""
    return [
        *make_genes(VIRUS, 40),
        *make_genes(OTHER, 40),
        *make_genes(TRANSCRIPT, 12),
        *make_genes(GENOME, 2, codons=(3_000, 3_001)),
    ]


@pytest.fixture
def packed(monkeypatch):
    """What `WindowSource` draws, before frames are looked for: windows and labels."""
    seen = []

    def watched(windows, labels):
        seen.append(([text_of(window) for window in windows], labels))
        return pack(windows, labels)

    monkeypatch.setattr(module, "pack", watched)
    return seen


def test_windows_are_pieces_of_one_gene_with_its_label(genes, packed):
    source = WindowSource(genes)
    rng = np.random.default_rng(0)
    for _ in range(20):
        source.draw(30, rng)
    pools = {label: "\n".join(g.dna for g in genes if g.is_virus == label) for label in (0, 1)}
    for windows, labels in packed:
        assert len({len(window) for window in windows}) == 1
        assert all(w in pools[n] for w, n in zip(windows, labels.tolist(), strict=True))


def test_windows_have_every_length_whose_frames_have_as_many_codons(genes, packed):
    source = WindowSource(genes)
    rng = np.random.default_rng(0)
    for _ in range(400):
        source.draw(4, rng)
    lengths = {len(windows[0]) for windows, _ in packed}
    assert all(length % 3 == 2 for length in lengths)
    assert min(lengths) in range(SHORTEST_NT, SHORTEST_NT + 20)
    assert max(lengths) in range(LONGEST_NT - 20, LONGEST_NT + 1)
    assert len(lengths) > 100


@pytest.mark.parametrize(
    "kinds", [{VIRUS, OTHER}, {VIRUS, OTHER, TRANSCRIPT}, {VIRUS, OTHER, TRANSCRIPT, GENOME}]
)
def test_half_of_the_windows_are_viral_whatever_others_there_are(genes, packed, kinds):
    source = WindowSource([gene for gene in genes if gene.kind in kinds])
    source.draw(1_000, np.random.default_rng(0))
    (_, labels), *_ = packed
    assert len(labels) == pytest.approx(1_000, abs=3)
    assert labels.mean() == pytest.approx(0.5, abs=0.002)


def test_noise_is_labelled_others_and_the_rest_stays_balanced(genes, packed):
    WindowSource(genes, noise_share=0.2).draw(1_000, np.random.default_rng(0))
    (windows, labels), *_ = packed
    assert len(windows) == pytest.approx(1_000, abs=3)
    pool = "\n".join(gene.dna for gene in genes)
    made = np.array([window not in pool for window in windows])
    assert made.sum() == pytest.approx(200, abs=2)
    assert not labels[made].any()
    assert labels[~made].mean() == pytest.approx(0.5, abs=0.002)


def test_without_noise_and_mutations_windows_are_as_they_were(genes, packed):
    for share, differ in ((0.0, False), (0.5, True)):
        packed.clear()
        WindowSource(genes, mutated_share=share).draw(200, np.random.default_rng(0))
        pool = "\n".join(gene.dna for gene in genes)
        assert any(window not in pool for window in packed[0][0]) == differ


def test_ambiguous_bases_are_never_drawn(genes):
    rng = random.Random(0)
    cut = [replace(g, dna=g.dna[: len(g.dna) // 2] + "N" + g.dna[len(g.dna) // 2 :]) for g in genes]
    cut += [Gene("all", "N" * 900, VIRUS, "all"), Gene("y", "Y" * 900, OTHER, "y")]
    rng.shuffle(cut)
    source = WindowSource(cut)
    generator = np.random.default_rng(0)
    samples = [source.draw(100, generator) for _ in range(10)]
    assert 200 < sum(map(len, samples)) < 950
    assert all((bags.ids >= 0).all() for one in samples for bags in one.bags.values())


def test_the_same_seed_draws_the_same(genes):
    source = WindowSource(genes, 0.1, 0.5)
    first, again, other = (source.draw(200, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for name in first.bags:
        assert torch.equal(first.bags[name].ids, again.bags[name].ids)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.bags["codons"].ids, other.bags["codons"].ids)


def test_a_long_gene_is_drawn_more_often_but_not_without_end(make_genes, packed):
    short = make_genes(VIRUS, 1, 1, (400, 401))[0]
    long = make_genes(VIRUS, 1, 2, (8_000, 8_001))[0]
    source = WindowSource([short, long, *make_genes(OTHER, 4)])
    rng = np.random.default_rng(0)
    for _ in range(20):
        source.draw(200, rng)
    windows = [w for ws, labels in packed for w, n in zip(ws, labels, strict=True) if n]
    share = np.mean([window in long.dna for window in windows])
    assert share == pytest.approx(8 / (8 + 1_200 / LONGEST_NT), abs=0.03)


def test_a_large_genome_is_drawn_as_often_as_a_small_one(make_genes, packed):
    small = make_genes(GENOME, 3, 1, (2_000, 2_001))
    large = make_genes(GENOME, 1, 2, (60_000, 60_001))
    source = WindowSource([*small, *large, *make_genes(VIRUS, 4)])
    rng = np.random.default_rng(0)
    for _ in range(20):
        source.draw(200, rng)
    windows = [w for ws, labels in packed for w, n in zip(ws, labels, strict=True) if not n]
    share = np.mean([window in large[0].dna for window in windows])
    assert share == pytest.approx(0.5, abs=0.03)


def test_short_genes_give_short_windows(make_genes, packed):
    genes = [*make_genes(VIRUS, 8, codons=(100, 101)), *make_genes(OTHER, 8)]
    source = WindowSource(genes)
    rng = np.random.default_rng(0)
    for _ in range(100):
        source.draw(10, rng)
    assert {labels.mean() for _, labels in packed} == {0.5}
    assert max(len(windows[0]) for windows, _ in packed) == 299


@pytest.mark.parametrize(("kind", "label"), [(VIRUS, "viral"), (OTHER, "other")])
def test_genes_too_short_for_any_window_are_refused(make_genes, kind, label):
    genes = [*make_genes({VIRUS: OTHER, OTHER: VIRUS}[kind], 4), *make_genes(kind, 4, 0, (50, 51))]
    with pytest.raises(BadInputError, match=f"the longest {label} gene to train on has 150 nt"):
        WindowSource(genes)
