from collections import Counter

import numpy as np
import pytest

from virnuc_dask.lab.speed.metagenome import (
    as_fasta,
    cut_at_random,
    draw_coding,
    draw_frames,
    draw_metagenome,
)
from virnuc_dask.sequences.frames import find_frames
from virnuc_dask.sequences.records import Record, read_records

COMPLEMENT = str.maketrans("ACGT", "TGCA")


@pytest.mark.parametrize("length", [300, 301, 302])
def test_coding_dna_has_an_open_frame(length):
    dna = draw_coding(np.random.default_rng(0), length)
    assert len(dna) == length
    assert "F1" in {frame.suffix for frame in find_frames([dna])[0]}


def test_so_many_frames_are_drawn_and_all_differ():
    frames = draw_frames(50, 300)
    assert len({frame.peptide for frame in frames}) == 50
    assert frames[:10] == draw_frames(50, 300)[:10]
    assert frames != draw_frames(50, 300, seed=2)


def test_about_half_of_the_chunks_have_a_frame_and_a_tenth_repeats():
    reads = [record.dna for record in draw_metagenome(400, 300)]
    assert {len(read) for read in reads} == {300}
    with_frames = sum(bool(frames) for frames in find_frames(reads))
    assert 0.4 < with_frames / 400 < 0.65
    assert 0.05 < 1 - len(set(reads)) / 400 < 0.15
    suffixes = Counter(f.suffix for frames in find_frames(reads) for f in frames)
    assert len(suffixes) == 6, "either strand, every phase"


def test_reads_are_cut_from_the_genomes_either_strand():
    rng = np.random.default_rng(0)
    genomes = [
        Record(i, f"g{i}", "".join(rng.choice(list("ACGT"), length)))
        for i, length in enumerate((5000, 500, 100))
    ]
    reads = [record.dna for record in cut_at_random(genomes, 300, 200)]
    forward = [any(read in genome.dna for genome in genomes) for read in reads]
    backward = [
        any(read.translate(COMPLEMENT)[::-1] in genome.dna for genome in genomes) for read in reads
    ]
    assert all(one != other for one, other in zip(forward, backward, strict=True))
    assert 0.3 < sum(forward) / 300 < 0.7
    from_long = sum(any(r in g for g in (genomes[0].dna,)) for r in reads if r) / sum(forward)
    assert from_long > 0.8, "long genomes give more reads"
    assert 0.04 < 1 - len(set(reads)) / 300 < 0.2


def test_a_metagenome_is_read_back_as_fasta(tmp_path):
    drawn = list(draw_metagenome(5, 60))
    path = tmp_path / "m.fasta"
    path.write_text("".join(as_fasta(iter(drawn))))
    assert list(read_records([str(path)])) == drawn
