from collections import Counter

import numpy as np
import pytest

from virnuc_dask.config import settings_of
from virnuc_dask.errors import BadInputError, BadSettingError
from virnuc_dask.lab.genomes import Exclusions, Genome, make_noise, read_genomes
from virnuc_dask.lab.recipe import DataSettings

HEADER = "record\tclass\tgroup\ttitle\tsource\tlength_nt\tphage_24mers\n"


def random_dna(length, seed):
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


@pytest.fixture
def folder(tmp_path):
    """A phage, three tiles of a prokaryote, two organelles; what is like what must not be used."""
    sequences = {
        "P.1": ("phage", "g1", random_dna(500, 1)),
        "B.1:0-400": ("prokaryote", "Bacillus", random_dna(400, 2)),
        "B.1:400-800": ("prokaryote", "Bacillus", random_dna(400, 3).lower()),
        "C.1:0-400": ("prokaryote", "Vibrio", random_dna(400, 4)),
        "M.1:0-400": ("eukaryote", "organelles", random_dna(400, 5)),
        "M.2:0-400": ("eukaryote", "organelles", random_dna(400, 6)),
    }
    lines = [
        f'{name}\t{kind}\t{group}\ta "title\tx\t{len(dna)}\t{7 if name == "C.1:0-400" else 0}\n'
        for name, (kind, group, dna) in sequences.items()
    ]
    (tmp_path / "table.tsv").write_text(HEADER + "".join(lines))
    for kind in ("phage", "prokaryote", "eukaryote"):
        entries = (f">{n}\n{dna}\n" for n, (of, _, dna) in sequences.items() if of == kind)
        (tmp_path / f"{kind}.fa").write_text("".join(entries))
    (tmp_path / "never.txt").write_text("C.1\n")
    (tmp_path / "like.fa").write_text(f">demo\n{random_dna(400, 3)[50:76]}\n")
    return tmp_path


def settings(folder, **changes):
    kinds = {kind: (str(folder / f"{kind}.fa"),) for kind in ("phage", "prokaryote", "eukaryote")}
    return DataSettings(**{"table": str(folder / "table.tsv"), **kinds, **changes})


def read(of):
    return read_genomes(of, Exclusions.read(of))


def test_every_genome_has_its_class_and_group_and_eukaryotes_each_their_own(folder):
    found = read(settings(folder)).records
    assert [(one.record, one.kind, one.group) for one in found] == [
        ("P.1", "phage", "g1"),
        ("B.1:0-400", "prokaryote", "Bacillus"),
        ("B.1:400-800", "prokaryote", "Bacillus"),
        ("C.1:0-400", "prokaryote", "Vibrio"),
        ("M.1:0-400", "eukaryote", "M.1"),
        ("M.2:0-400", "eukaryote", "M.2"),
    ]
    assert found[2].dna == random_dna(400, 3)
    assert found[3].phage_24mers == 7


def test_what_must_never_be_used_is_left_out_and_counted(folder):
    never, like = str(folder / "never.txt"), str(folder / "like.fa")
    found = read(settings(folder, exclude_names=never, exclude_similar=(like,)))
    assert [one.record for one in found.records if one.kind == "prokaryote"] == ["B.1:0-400"]
    assert found.left_out == {
        "prokaryote: excluded by name": 1,
        "prokaryote: similar to an excluded sequence": 1,
    }


def test_fewer_shared_kmers_are_chance(folder):
    like = str(folder / "like.fa")  # 26 bases: three 24-mers
    found = read(settings(folder, exclude_similar=(like,), exclude_shared=4))
    assert not found.left_out


def test_a_record_that_the_table_does_not_know_is_refused(folder):
    (folder / "phage.fa").write_text(f">Q.1\n{random_dna(100, 1)}\n")
    with pytest.raises(BadInputError, match=r"phage\.fa: Q\.1 .* not in it"):
        read(settings(folder))
    (folder / "phage.fa").write_text(f">M.1:0-400\n{random_dna(100, 1)}\n")
    with pytest.raises(BadInputError, match="eukaryote there"):
        read(settings(folder))


def test_a_table_without_a_needed_column_is_refused(folder):
    (folder / "table.tsv").write_text("record\tclass\tgroup\n")
    with pytest.raises(BadInputError, match=r"table\.tsv: has no column phage_24mers, source"):
        read(settings(folder))


def test_settings_need_genomes_and_know_their_names(folder):
    with pytest.raises(BadSettingError, match="needs `phage`"):
        settings(folder, phage=())
    with pytest.raises(BadSettingError, match=r"data\.fage"):
        settings_of(DataSettings, {"fage": []}, "data")


def test_noise_is_of_every_kind_and_stays_with_what_it_was_made_from():
    genomes = [Genome(f"r{n}", "phage", f"g{n}", "x", 0, random_dna(30_000, n)) for n in range(3)]
    made = make_noise(genomes, 200_000, seed=1)
    assert Counter(one.source for one in made) == Counter(
        dict.fromkeys(
            ("shuffled_bases", "same_dinucleotides", "shuffled_codons", "random_bases", "repeats"),
            2,
        )
    )
    assert len({one.record for one in made}) == 10
    assert all(one.record.endswith(one.group.removesuffix("|phage")[1:]) for one in made)
    assert made == make_noise(genomes, 200_000, seed=1) != make_noise(genomes, 200_000, seed=2)
    assert make_noise([], 200_000, seed=1) == make_noise(genomes, 0, seed=1) == []
