from collections import Counter

import pytest
from xxhash import xxh3_64_hexdigest

from virnuc_dask.lab.genomes import Exclusions, Genome, make_noise, read_genomes
from virnuc_dask.lab.noise import KINDS
from virnuc_dask.lab.recipe import DataSettings

HEADER = "record\tclass\tgroup\ttitle\tsource\tlength_nt\tphage_24mers\n"


@pytest.fixture
def folder(tmp_path, random_dna):
    """A phage, three tiles of a prokaryote, two organelles; what is like what must not be used."""
    known = {
        "P.1": ("phage", "g1"),
        "B.1:0-400": ("prokaryote", "Bacillus"),
        "B.1:400-800": ("prokaryote", "Bacillus"),
        "C.1:0-400": ("prokaryote", "Vibrio"),
        "M.1:0-400": ("eukaryote", "organelles"),
        "M.2:0-400": ("eukaryote", "organelles"),
    }
    lines, entries = [HEADER], {}
    for number, (name, (kind, group)) in enumerate(known.items()):
        lines.append(f'{name}\t{kind}\t{group}\ta "title\tx\t400\t{7 * (name == "C.1:0-400")}\n')
        dna = random_dna(400, number)
        entries[kind] = entries.get(kind, "") + f">{name}\n{dna.lower() if number == 2 else dna}\n"
    (tmp_path / "table.tsv").write_text("".join(lines))
    for kind, text in entries.items():
        (tmp_path / f"{kind}.fa").write_text(text)
    (tmp_path / "never.txt").write_text("C.1\n")
    # 26 bases: three 24-mers.
    (tmp_path / "like.fa").write_text(f">demo\n{random_dna(400, 2)[50:76]}\n")
    return tmp_path


def settings(folder, **changes):
    kinds = {kind: (str(folder / f"{kind}.fa"),) for kind in ("phage", "prokaryote", "eukaryote")}
    return DataSettings(**{"table": str(folder / "table.tsv"), **kinds, **changes})


def read(of):
    return read_genomes(of, Exclusions.read(of))


def test_every_genome_has_its_class_and_group_and_eukaryotes_each_their_own(folder, random_dna):
    found = read(settings(folder))
    assert [(one.record, one.kind, one.group) for one in found] == [
        ("P.1", "phage", "g1"),
        ("B.1:0-400", "prokaryote", "Bacillus"),
        ("B.1:400-800", "prokaryote", "Bacillus"),
        ("C.1:0-400", "prokaryote", "Vibrio"),
        ("M.1:0-400", "eukaryote", "M.1"),
        ("M.2:0-400", "eukaryote", "M.2"),
    ]
    assert found[2].dna == random_dna(400, 2)
    assert found[3].phage_24mers == 7


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"exclude_names": "never.txt"}, ["B.1:0-400", "B.1:400-800"]),
        ({"exclude_similar": ("like.fa",)}, ["B.1:0-400", "C.1:0-400"]),
        # Fewer shared 24-mers are chance.
        ({"exclude_similar": ("like.fa",), "exclude_shared": 4}, 3),
    ],
)
def test_what_must_never_be_used_is_left_out(folder, changes, left, monkeypatch):
    monkeypatch.chdir(folder)
    found = [one.record for one in read(settings(folder, **changes)) if one.kind == "prokaryote"]
    assert left in (found, len(found))


def test_noise_is_of_every_kind_and_stays_with_what_it_was_made_from(random_dna):
    genomes = [Genome(f"r{n}", "phage", f"g{n}", "x", 0, random_dna(30_000, n)) for n in range(3)]
    made = make_noise(genomes, 200_000, seed=1)
    assert Counter(one.source for one in made) == {make.__name__: 2 for make in KINDS}
    assert len({one.record for one in made}) == 10
    assert xxh3_64_hexdigest("".join(one.dna for one in made).encode()) == "898c579b0ce51594", (
        "not to change"
    )
    assert all(one.record.endswith(one.group.removesuffix("|phage")[1:]) for one in made)
    assert made == make_noise(genomes, 200_000, seed=1) != make_noise(genomes, 200_000, seed=2)
    assert make_noise([], 200_000, seed=1) == make_noise(genomes, 0, seed=1) == []
