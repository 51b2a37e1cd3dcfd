import csv
from collections import Counter

import numpy as np

from virnuc_dask.lab.contigs import Held, draw, write
from virnuc_dask.lab.genomes import Genome
from virnuc_dask.lab.recipe import TestSettings as Settings
from virnuc_dask.sequences.records import read_records

SETTINGS = Settings(lengths_nt=(500, 2_000), prophage_lengths_nt=(1_000,))
NONE = np.empty((0, 3), np.int64)


def genome(record, kind, group="g", length=4_200):
    dna = "".join(np.random.default_rng(length).choice(list("ACGT"), length))
    return Genome(record, kind, group, "somewhere", 0, dna)


GENOMES = [
    genome("P", "phage"),
    genome("B", "prokaryote", "Bacillus"),
    genome("C", "prokaryote", "Bacillus"),
    genome("D", "prokaryote", "Vibrio"),
    genome("E", "eukaryotic_virus", length=700),
    genome("F", "plasmid"),
]


def drawn(folds=(-1, -1, -1, -2, -2, 0), known=(True,) * 6, spans=NONE, settings=SETTINGS):
    return draw(Held(GENOMES, folds, known, spans, spans), settings)


def test_contigs_are_whole_tiles_of_what_is_held_out():
    counts = Counter((one.test, one.record, one.length_nt) for one in drawn())
    assert counts == {
        **{("new_group", record, 500): 8 for record in "PBC"},
        **{("new_group", record, 2_000): 2 for record in "PBC"},
        **{("read", record, 300): 14 for record in "PBC"},
        ("new_species", "D", 500): 8,
        ("new_species", "D", 2_000): 2,
        ("new_species", "E", 500): 1,
    }
    assert {one.label for one in drawn() if one.record in "PE"} == {"virus"}
    assert {one.label for one in drawn() if one.record in "BCD"} == {"other"}


def test_what_may_be_viral_is_no_other_but_a_prophage_is_a_virus_among_its_genus():
    spans = np.array([[1, 900, 3_000]])
    contigs = drawn(spans=spans)
    others = [one for one in contigs if one.record == "B" and one.label == "other"]
    assert all(one.end <= 900 or one.start >= 3_000 for one in others)
    pieces = [(one.start, one.end) for one in contigs if one.test == "prophage"]
    assert pieces == [(900, 1_900), (1_900, 2_900)]
    hosts = Counter(one.record for one in contigs if one.test == "host")
    assert hosts == {"B": 1, "C": 4}


def test_a_genome_of_which_nothing_is_known_is_no_test():
    assert "B" not in {one.record for one in drawn(known=(True, False, *[True] * 4))}


def test_of_many_some_are_chosen_each_time_the_same():
    few = Settings(lengths_nt=(500, 2_000), prophage_lengths_nt=(1_000,), most=5, most_nt=2_500)
    some = drawn(settings=few)
    counts = Counter((one.test, one.kind, one.length_nt) for one in some)
    assert counts["new_group", "prokaryote", 500] == 5
    assert counts["new_group", "prokaryote", 2_000] == 1
    assert some == drawn(settings=few)
    assert {one.contig for one in some} < {one.contig for one in drawn()}


def test_files_hold_what_the_table_says(tmp_path):
    contigs = drawn(spans=np.array([[1, 900, 3_000]]))
    write(contigs, GENOMES, tmp_path)
    with (tmp_path / "contigs.tsv").open() as stream:
        rows = {row["contig"]: row for row in csv.DictReader(stream, delimiter="\t")}
    assert len(rows) == len(contigs)
    by_record = {genome.record: genome.dna for genome in GENOMES}
    found = 0
    for label in ("virus", "other"):
        for record in read_records([str(tmp_path / f"{label}.fasta")]):
            row = rows[record.id]
            assert row["label"] == label
            start = int(row["start"])
            assert record.dna == by_record[row["record"]][start : start + int(row["length_nt"])]
            found += 1
    assert found == len(rows)
