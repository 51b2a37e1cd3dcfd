import csv
from collections import Counter

import numpy as np
import pytest

from virnuc_dask.lab.contigs import Held, draw, write
from virnuc_dask.lab.genomes import Genome
from virnuc_dask.lab.recipe import TestSettings as Settings
from virnuc_dask.sequences.records import read_records

SETTINGS = Settings(lengths_nt=(500, 2_000), prophage_lengths_nt=(1_000,))
PROPHAGE = (1, 900, 3_000)


@pytest.fixture
def genomes(random_dna):
    kinds = ("phage", "prokaryote", "prokaryote", "prokaryote", "eukaryotic_virus", "plasmid")
    groups = ("g", "Bacillus", "Bacillus", "Vibrio", "g", "g")
    lengths = (4_200, 4_200, 4_200, 4_200, 700, 4_200)
    return [
        Genome(record, kind, group, "somewhere", 0, random_dna(length, number))
        for number, (record, kind, group, length) in enumerate(
            zip("PBCDEF", kinds, groups, lengths, strict=True)
        )
    ]


@pytest.fixture
def drawn(genomes):
    def drawn(spans=(), known=(True,) * 6, settings=SETTINGS):
        spans = np.array(spans, np.int64).reshape(-1, 3)
        return draw(Held(genomes, (-1, -1, -1, -2, -2, 0), known, spans, spans), settings)

    return drawn


def test_contigs_are_whole_tiles_of_what_is_held_out(drawn):
    counts = Counter((one.test, one.genome.record, one.length_nt, one.label) for one in drawn())
    new = {"P": "virus", "B": "other", "C": "other"}
    assert counts == {
        **{("new_group", record, 500, label): 8 for record, label in new.items()},
        **{("new_group", record, 2_000, label): 2 for record, label in new.items()},
        **{("read", record, 300, label): 14 for record, label in new.items()},
        ("new_species", "D", 500, "other"): 8,
        ("new_species", "D", 2_000, "other"): 2,
        ("new_species", "E", 500, "virus"): 1,
    }


def test_what_may_be_viral_is_no_other_but_a_prophage_is_a_virus_among_its_genus(drawn):
    contigs = drawn(PROPHAGE)
    others = [one for one in contigs if one.genome.record == "B" and one.label == "other"]
    assert all(one.end <= 900 or one.start >= 3_000 for one in others)
    pieces = [(one.start, one.end) for one in contigs if one.test == "prophage"]
    assert pieces == [(900, 1_900), (1_900, 2_900)]
    hosts = Counter(one.genome.record for one in contigs if one.test == "host")
    assert hosts == {"B": 1, "C": 4}


def test_a_genome_of_which_nothing_is_known_is_no_test(drawn):
    assert "B" not in {one.genome.record for one in drawn(known=(True, False, *[True] * 4))}


def test_of_many_some_are_chosen_each_time_the_same(drawn):
    few = Settings(lengths_nt=(500, 2_000), prophage_lengths_nt=(1_000,), most=5, most_nt=2_500)
    some = drawn(settings=few)
    counts = Counter((one.test, one.genome.kind, one.length_nt) for one in some)
    assert counts["new_group", "prokaryote", 500] == 5
    assert counts["new_group", "prokaryote", 2_000] == 1
    assert some == drawn(settings=few)
    assert {one.name for one in some} < {one.name for one in drawn()}


def test_files_hold_what_the_table_says(genomes, drawn, tmp_path):
    contigs = drawn(PROPHAGE)
    write(contigs, tmp_path)
    with (tmp_path / "contigs.tsv").open() as stream:
        rows = {row["contig"]: row for row in csv.DictReader(stream, delimiter="\t")}
    dna = {genome.record: genome.dna for genome in genomes}
    found = 0
    for label in ("virus", "other"):
        for record in read_records([str(tmp_path / f"{label}.fasta")]):
            row = rows[record.id]
            assert row["label"] == label
            assert record.dna == dna[row["record"]][int(row["start"]) : int(row["end"])]
            found += 1
    assert found == len(rows) == len(contigs)
