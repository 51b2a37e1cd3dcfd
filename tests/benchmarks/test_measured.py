import json

import numpy as np
import pytest
from measured import cut_at_random, medians, options_of, ratio, report, take_turns

from virnuc_dask.sequences.records import Record

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def test_variants_take_turns_in_an_order_that_is_reversed_and_the_first_is_not_counted():
    called: list[str] = []

    def work(name):
        called.append(name)
        return len(called)

    found = take_turns({name: lambda n=name: work(n) for name in "ab"}, repeats=3)
    assert "".join(called) == "ba" + "ab" + "ba" + "ab"
    assert found == {"a": [3, 6, 7], "b": [4, 5, 8]}


def test_a_ratio_is_the_median_of_the_turns_ratios():
    theirs, ours = ([{"s": s} for s in of] for of in ([4.0, 40.0, 4.0], [2.0, 10.0, 1.0]))
    assert ratio(theirs, ours, "s") == 4
    assert medians(theirs) == {"s": 4.0}


def test_figures_end_in_a_line_that_is_kept(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--out", str(tmp_path / "x.json"), "--repeats", "7"])
    report({"rate": 1.5}, options_of("A program.").parse_args(), "pytest")
    printed = capsys.readouterr().out
    assert (tmp_path / "x.json").read_text() == printed
    figures = json.loads(printed)
    assert (figures["rate"], figures["repeats"]) == (1.5, 7)
    assert figures["versions"]["pytest"] == pytest.__version__


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
