"""What is gathered from files, split, and written for calibration and measuring."""

import hashlib
import json
import random
from collections import Counter
from dataclasses import replace

import pytest

from virnuc_dask.errors import BadInputError, UsageError
from virnuc_dask.pretraining import material as module
from virnuc_dask.pretraining.genes import (
    GENOME,
    OTHER,
    PARTS,
    TEST,
    TRAIN,
    TRANSCRIPT,
    VALIDATION,
    VIRUS,
    Gene,
    part_of,
)
from virnuc_dask.pretraining.material import (
    Material,
    gather,
    write_contigs,
    write_genes,
    write_noise,
)
from virnuc_dask.pretraining.recipe import PretrainSettings
from virnuc_dask.sequences.records import read_records

SHARES = {"test": 0.3, "validation": 0.3}


def records_of(path) -> dict[str, str]:
    return {record.id: record.dna for record in read_records([str(path)])}


@pytest.fixture
def files(tmp_path, coding):
    """Genes of both labels, and a whole genome for each side that may have one."""
    rng = random.Random(0)
    folder = tmp_path / "data"
    folder.mkdir()
    texts = {
        "virus.fa": [(f"v{n}", coding(rng, 60)) for n in range(30)],
        "other.fa": [(f"o{n}", coding(rng, 60)) for n in range(30)],
        "yeast.fa": [("chrI", coding(rng, 900).lower()), ("chrII", coding(rng, 300))],
        "valid.fa": [("contig", coding(rng, 500))],
        "demo.fa": [],
    }
    texts["demo.fa"] = [("d", texts["virus.fa"][3][1][20:80])]
    for name, records in texts.items():
        text = "".join(f">{record} described\n{dna}\n" for record, dna in records)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def settings(files, tmp_path):
    def make(**changes) -> PretrainSettings:
        data = {
            "virus": [str(files / "virus.fa")],
            "other": [str(files / "other.fa")],
            "genomes": [str(files / "yeast.fa")],
            "validation_genomes": [str(files / "valid.fa")],
        }
        values = {
            "name": "toy",
            "out": str(tmp_path / "toy"),
            "work": str(tmp_path / "work"),
            "split": SHARES,
            "threads": 1,
        }
        values["data"] = data | changes.pop("data", {})
        return PretrainSettings.of(values | changes, "pretrain")

    return make


@pytest.fixture
def work(tmp_path):
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_gathers_genes_by_side_and_whole_genomes_where_they_belong(
    install_mmseqs, settings, work, files
):
    install_mmseqs()
    found = gather(settings(), work)
    for part, genes in found.parts.items():
        for gene in genes:
            assert gene.kind == GENOME or part_of(gene.genome, SHARES) == part
    whole = [(p, g.name, g.genome) for p in PARTS for g in found.parts[p] if g.kind == GENOME]
    assert whole == [
        (TRAIN, "chrI", "yeast.fa"),
        (TRAIN, "chrII", "yeast.fa"),
        (VALIDATION, "contig", "valid.fa"),
    ]
    assert found.counts[VALIDATION][GENOME] == 1
    assert sum(found.counts[part][VIRUS] for part in PARTS) == 30
    assert all(gene.dna.isupper() for genes in found.parts.values() for gene in genes)
    order = ["virus.fa", "other.fa", "yeast.fa", "valid.fa"]
    digests = {n: hashlib.sha256((files / n).read_bytes()).hexdigest() for n in order}
    assert list(found.sha256.items()) == list(digests.items())
    described = found.described(7)
    assert described.endswith("; seed 7")
    assert all(digest in described for digest in digests.values())


def test_what_is_similar_is_left_out_and_counted(install_mmseqs, settings, work, files):
    install_mmseqs()
    genes = records_of(files / "virus.fa")
    held_out = next(name for name in genes if part_of(name, SHARES) == TEST)
    name = next(f"new{n}" for n in range(99) if part_of(f"new{n}", SHARES) == TRAIN)
    with (files / "other.fa").open("a") as stream:
        stream.write(f">{name}\n{genes[held_out][30:90]}{genes[held_out][:30]}\n")
    found = gather(settings(data={"exclude_similar": [str(files / "demo.fa")]}), work)
    assert found.left_out["similar to a held-out gene"] == 1
    assert found.left_out["similar to an excluded sequence"] == 1
    kept = {gene.name for genes in found.parts.values() for gene in genes}
    assert not {name, "v3"} & kept
    assert held_out in kept


def test_excluded_genes_change_nothing(install_mmseqs, settings, work, files, coding, tmp_path):
    install_mmseqs()
    before = gather(settings(), work)
    rng = random.Random(5)
    more = [(f"more{n}", coding(rng, 60)) for n in range(30)]
    with (files / "virus.fa").open("a") as stream:
        stream.writelines(f">{name}\n{dna}\n" for name, dna in more)
    names = tmp_path / "names.txt"
    names.write_text("\n".join(name for name, _ in more))
    after = gather(settings(data={"exclude_names": str(names)}), work)
    assert (after.parts, after.phages) == (before.parts, before.phages)
    assert after.left_out["excluded by name"] == 30


def test_a_split_is_kept_for_the_same_genes_only(install_mmseqs, settings, work, files):
    calls = install_mmseqs()
    first = gather(settings(), work)
    assert gather(settings(seed=5), work) == first
    assert len(calls.read_text().splitlines()) == 1
    other = gather(settings(split=SHARES | {"identity": 0.5}), work)
    assert len(calls.read_text().splitlines()) == 2
    assert other.parts == first.parts
    with (files / "virus.fa").open("a") as stream:
        stream.write(f">more\n{'ACGGTA' * 20}\n")
    assert sum(gather(settings(), work).counts[part][VIRUS] for part in PARTS) == 31
    assert len(calls.read_text().splitlines()) == 3


def test_the_files_that_are_described_are_accepted(install_mmseqs, settings, work, files):
    install_mmseqs()
    names = ("virus.fa", "other.fa", "yeast.fa", "valid.fa")
    digests = [hashlib.sha256((files / name).read_bytes()).hexdigest() for name in names]
    gather(settings(data={"sha256": digests}), work)
    wrong = [*digests[:2], "0" * 64, digests[3]]
    with pytest.raises(BadInputError, match=rf"yeast\.fa: its SHA-256 is {digests[2]}"):
        gather(settings(data={"sha256": wrong}), work)
    with pytest.raises(BadInputError, match="3 entries for 4 files"):
        gather(settings(data={"sha256": digests[:3]}), work)


@pytest.mark.parametrize("key", ["virus", "other", "genomes", "validation_genomes"])
def test_a_missing_file_is_named(install_mmseqs, settings, work, key):
    install_mmseqs()
    with pytest.raises(BadInputError, match=r"none\.fa: cannot be read"):
        gather(settings(data={key: ["none.fa"]}), work)


def test_a_genome_may_not_train_and_validate(install_mmseqs, settings, work, files):
    install_mmseqs()
    same = [str(files / "yeast.fa")]
    with pytest.raises(BadInputError, match=r"yeast\.fa: another file has the same name"):
        gather(settings(data={"validation_genomes": same}), work)


def test_a_side_without_viruses_is_named(install_mmseqs, settings, work, files):
    install_mmseqs()
    genes = records_of(files / "virus.fa")
    kept = [name for name in genes if part_of(name, SHARES) != VALIDATION]
    text = "".join(f">{name}\n{genes[name]}\n" for name in kept)
    (files / "virus.fa").write_text(text)
    with pytest.raises(BadInputError, match="no viral gene is left for validation"):
        gather(settings(), work)


def test_nothing_held_out_is_named(install_mmseqs, settings, work):
    install_mmseqs()
    tiny = {"test": 1e-6, "validation": 1e-6}
    with pytest.raises(BadInputError, match="no viral gene is left for"):
        gather(settings(split=tiny), work)


def test_without_mmseqs_nothing_is_written(no_mmseqs, settings, work):
    with pytest.raises(UsageError, match="mmseqs"):
        gather(settings(), work)
    assert list(work.iterdir()) == []


@pytest.fixture
def material(make_genes):
    genes = [
        *make_genes(VIRUS, 12),
        *make_genes(OTHER, 8),
        *make_genes(TRANSCRIPT, 4),
        *make_genes(GENOME, 1, codons=(3_000, 3_001)),
    ]
    return Material({TEST: genes}, frozenset({"virus0_1"}), {}, {}, {})


def test_genes_are_written_by_group(material, tmp_path):
    paths = write_genes(material, TEST, tmp_path / "genes")
    found = {group: set(records_of(path)) for group, path in paths.items()}
    names = {g.name: g for g in material.parts[TEST]}
    assert set(found) == {"phages", "other_viruses", "prokaryotes", "transcripts"}
    assert {names[name].genome for name in found["phages"]} == {"virus0_1"}
    assert {names[name].genome for name in found["other_viruses"]} == {"virus0_0", "virus0_2"}
    assert sum(map(len, found.values())) == 24
    assert all(record == names[n].dna for n, record in records_of(paths["phages"]).items())


def test_named_genomes_of_others_are_measured_apart(material, tmp_path):
    genome = next(g.genome for g in material.parts[TEST] if g.kind == OTHER)
    apart = replace(material, groups={genome: "archaea", "virus0_1": "archaea"})
    paths = write_genes(apart, TEST, tmp_path / "genes")
    expected = {g.name for g in material.parts[TEST] if (g.kind, g.genome) == (OTHER, genome)}
    assert set(records_of(paths["archaea"])) == expected
    assert not expected & set(records_of(paths["prokaryotes"]))


def test_contigs_are_written_by_group(material, tmp_path):
    paths = write_contigs(material, TEST, tmp_path / "contigs")
    assert set(paths) == {"phages", "other_viruses", "prokaryotes", "transcripts", "genomes"}
    for group, kind in (("phages", VIRUS), ("prokaryotes", OTHER), ("genomes", GENOME)):
        records = records_of(paths[group])
        assert records
        assert all(name.startswith(f"{kind}_") for name in records)


def test_noise_is_written_by_kind_and_always_the_same(material, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_NOISE_WINDOWS", 30)
    first, again = (write_noise(material, TEST, tmp_path / name) for name in "ab")
    assert set(first) == {"shuffled", "same_dinucleotides", "random"}
    sources = {tuple(sorted(Counter(g.dna[:500]).items())) for g in material.parts[TEST]}
    for name, path in first.items():
        records = records_of(path)
        assert {len(dna) for dna in records.values()} == {500}
        assert len(records) == 30
        assert path.read_bytes() == again[name].read_bytes()
        from_genes = {tuple(sorted(Counter(dna).items())) for dna in records.values()} <= sources
        assert from_genes == (name == "shuffled")


def test_noise_needs_long_genes(tmp_path):
    short = Material({TEST: [Gene("a", "ACGT" * 100, VIRUS, "a")]}, frozenset(), {}, {}, {})
    with pytest.raises(BadInputError, match="no test gene has 500 nt"):
        write_noise(short, TEST, tmp_path)


def test_the_kept_split_is_readable(install_mmseqs, settings, work):
    install_mmseqs()
    found = gather(settings(), work)
    kept = json.loads((work / "split.json").read_text())
    assert {part: len(chosen) for part, chosen in kept["parts"].items()} == {
        part: sum(gene.kind != GENOME for gene in genes) for part, genes in found.parts.items()
    }


def test_others_like_a_viral_gene_are_known_and_kept_but_for_the_calibration(
    install_mmseqs, settings, work, files
):
    calls = install_mmseqs()
    genes = records_of(files / "virus.fa")
    first_of = {part: next(n for n in genes if part_of(n, SHARES) == part) for part in PARTS}
    # Like a viral gene of the same side: the split leaves neither out.
    alike = {
        part: next(f"new{n}" for n in range(99) if part_of(f"new{n}", SHARES) == part)
        for part in PARTS
    }
    with (files / "other.fa").open("a") as stream:
        for part, name in alike.items():
            dna = genes[first_of[part]]
            stream.write(f">{name}\n{dna[30:90]}{dna[:30]}\n")
    counted = gather(settings(), work)
    assert all(alike[part] in {g.name for g in counted.parts[part]} for part in PARTS)
    wanted = settings(data={"calibrate_on_sure": True})
    found = gather(wanted, work)
    assert found.doubtful == set(alike.values())
    for part in PARTS:
        names = {gene.name for gene in found.parts[part]}
        kept = {gene.name for gene in counted.parts[part]}
        assert names == kept
        sure = {gene.name for gene in found.without_doubtful(part).parts[part]}
        assert sure == kept - {alike[part]}
    assert found.left_out["of the calibration alone, similar to a viral gene"] == 1
    searches = len(calls.read_text().splitlines())
    assert gather(wanted, work) == found
    assert len(calls.read_text().splitlines()) == searches
    (work / "doubtful.json").write_text('{"genes": "of others", "doubtful": []}')
    assert gather(wanted, work) == found
    assert len(calls.read_text().splitlines()) == searches + 1


def test_one_changed_base_is_split_and_compared_anew(install_mmseqs, settings, work, files):
    calls = install_mmseqs()
    wanted = settings(data={"calibrate_on_sure": True})
    gather(wanted, work)
    caches = [work / "split.json", work / "doubtful.json"]
    before = [json.loads(path.read_text())["genes"] for path in caches]
    searches = len(calls.read_text().splitlines())
    text = (files / "virus.fa").read_text()
    last = text.rstrip()[-1]
    changed = text.rstrip()[:-1] + ("A" if last != "A" else "C") + "\n"
    (files / "virus.fa").write_text(changed)
    gather(wanted, work)
    assert len(calls.read_text().splitlines()) == searches + 2
    after = [json.loads(path.read_text())["genes"] for path in caches]
    assert all(old != new for old, new in zip(before, after, strict=True))
