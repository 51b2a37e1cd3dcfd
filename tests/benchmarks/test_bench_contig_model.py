import gzip
import random

import bench_contig_model

GROUPS = 25
COLUMNS = ("record", "class", "group", "title", "source", "length_nt", "phage_24mers")
# No stop codon on either strand.
CODONS = {"phage": ["AAA", "GAA", "ACA", "AAC"], "prokaryote": ["GCC", "GGC", "CGC", "CTG"]}


def write_genomes(folder):
    rng = random.Random(1)
    shared = [codon for codons in CODONS.values() for codon in codons]
    rows = ["\t".join(COLUMNS)]
    for kind, codons in CODONS.items():
        lines = []
        for number in range(GROUPS + 1):
            choices = [codons if rng.random() < 0.5 else shared for _ in range(6_000)]
            dna = "".join(rng.choice(some) for some in choices)
            name = f"{kind}{number}"
            lines.append(f">{name}\n{dna}\n")
            # The last of the others holds a prophage.
            known = 9 if (kind, number) == ("prokaryote", GROUPS) else 0
            rows.append(f"{name}\t{kind}\t{kind}{number}\tx\tx\t{len(dna)}\t{known}")
        (folder / f"{kind}.fa.gz").write_bytes(gzip.compress("".join(lines).encode()))
    (folder / "genomes.tsv.gz").write_bytes(gzip.compress(("\n".join(rows) + "\n").encode()))


def test_both_ways_are_measured_on_groups_that_were_held_out(program, tmp_path):
    write_genomes(tmp_path)
    names = tmp_path / "names.txt"
    names.write_text("phage25\n")
    options = ("--lengths", 3000, "--contigs", 8, "--width", 4, "--epochs", 3)
    figures = program(bench_contig_model, tmp_path, tmp_path / "work", "--exclude", names, *options)
    taught, held_out = figures["training"]["genomes"], figures["held_out"]["genomes"]
    for kind in CODONS:
        assert (taught[kind][0], held_out[kind][0]) == (20, 5)
    assert figures["contig_model"]
    of_length = figures["lengths"]["3000"]
    assert list(of_length) == ["by_mean", "by_mean_uncalibrated", "trained"]
    assert all((found["n_virus"], found["n_others"]) == (8, 8) for found in of_length.values())
    assert of_length["trained"]["auroc"] > 0.9
