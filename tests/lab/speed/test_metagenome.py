from collections import Counter

from virnuc_dask.lab.speed.metagenome import (
    draw_metagenome,
)
from virnuc_dask.sequences.frames import find_frames


def test_about_half_of_the_chunks_have_a_frame_and_a_tenth_repeats():
    reads = [record.dna for record in draw_metagenome(400, 300)]
    assert {len(read) for read in reads} == {300}
    with_frames = sum(bool(frames) for frames in find_frames(reads))
    assert 0.4 < with_frames / 400 < 0.65
    assert 0.05 < 1 - len(set(reads)) / 400 < 0.15
    suffixes = Counter(f.suffix for frames in find_frames(reads) for f in frames)
    assert len(suffixes) == 6, "either strand, every phase"
