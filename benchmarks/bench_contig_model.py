"""A model set of frames with and without its contig model, on contigs of groups it has not seen.

Genomes of phages and of prokaryotes (or tiles of them) are held out by group, one in five. `train`
makes a model set from the others, with encoders of n-grams whose weights are drawn, and its contig
model. `evaluate` then measures it and a copy without the contig model, on contigs of some lengths
of the groups that were held out. The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from measured import options_of, report, write_fasta
from ngrams import DNA_TABLES, PEPTIDE_TABLES
from safetensors.torch import save_file

from virnuc_dask.config import load_settings
from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.lab.evaluate import evaluate
from virnuc_dask.lab.fitting.fit_classifier import ClassifierRecipe
from virnuc_dask.lab.fitting.training_options import TrainingOptions
from virnuc_dask.lab.train import train
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.manifest import ClassifierSpec, ModelSetInfo, read_info, write_info
from virnuc_dask.sequences.records import Record, read_records

KINDS = {"phage": "virus", "prokaryote": "other"}
FEW_24MERS = 5  # of phages, in a tile: above, it holds a prophage
FIGURES = (
    *("n_virus", "n_others", "auroc", "recall_at_fpr_0.01", "recall", "false_positive_rate"),
    *("unsure_virus", "unsure_others"),
)


class Genome(NamedTuple):
    """A record of the training or the test, whole or a tile."""

    id: str
    kind: str
    group: str
    dna: str


def main() -> None:
    options = parse_options()
    options.work.mkdir(parents=True)
    genomes = list(read_genomes(options.genomes, options.exclude))
    held_out = hold_out(genomes, options.seed)
    taught = [genome for genome in genomes if (genome.kind, genome.group) not in held_out]
    taught = list(some_of_each_group(taught, options.most_of_group))
    tests = [genome for genome in genomes if (genome.kind, genome.group) in held_out]
    tests = list(some_of_each_group(tests, options.most_of_test_group))
    began = time.perf_counter()
    trained = learn(taught, options)
    elapsed_s = time.perf_counter() - began
    sets = (*plain_copies(trained.folder, options.work), trained.folder)
    result = {
        "benchmark": "contig_model",
        "training": {"genomes": counts(taught), "elapsed_s": round(elapsed_s, 1)},
        "contig_model": trained.report.contig_model,
        "test_of_train": {
            level: trained.report.test[level]["auroc"] for level in ("contigs", "contigs_by_mean")
        },
        "held_out": {"genomes": counts(tests), "groups": Counter(kind for kind, _ in held_out)},
        "lengths": measure(tests, sets, options),
        "seed": options.seed,
    }
    report(result, options, "lightgbm", "scikit-learn")


def parse_options() -> argparse.Namespace:
    parser = options_of(__doc__, repeats=None)
    parser.add_argument("genomes", type=Path, help="phage.fa.gz, prokaryote.fa.gz, genomes.tsv.gz")
    parser.add_argument("work", type=Path, help="a new folder")
    parser.add_argument("--exclude", type=Path, help="names never to be used, one a line")
    parser.add_argument("--lengths", type=int, nargs="+", default=[300, 1_000, 3_000, 10_000])
    parser.add_argument("--contigs", type=int, default=1_500, help="of each length and kind")
    parser.add_argument("--most-of-group", type=int, default=300_000, help="nt of prokaryotes")
    parser.add_argument("--most-of-test-group", type=int, default=1_200_000, help="likewise")
    parser.add_argument("--width", type=int, default=24, help="of an n-gram's embedding")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def read_genomes(folder: Path, exclude: Path | None) -> Iterator[Genome]:
    names = set(exclude.read_text().split()) if exclude else set()
    with gzip.open(folder / "genomes.tsv.gz", "rt", encoding="utf-8") as stream:
        table = {row["record"]: row for row in csv.DictReader(stream, delimiter="\t")}
    for kind in KINDS:
        for record in read_records([str(folder / f"{kind}.fa.gz")]):
            row = table[record.id]
            few = kind == "phage" or int(row["phage_24mers"]) <= FEW_24MERS
            if few and names.isdisjoint((record.id, record.id.partition(":")[0])):
                yield Genome(record.id, kind, row["group"], record.dna)


def some_of_each_group(genomes: list[Genome], most_nt: int) -> Iterator[Genome]:
    """All phages, and of each group of prokaryotes some tiles."""
    have: Counter[str] = Counter()
    for genome in genomes:
        if genome.kind == "phage" or have[genome.group] < most_nt:
            have[genome.group] += len(genome.dna)
            yield genome


def hold_out(genomes: list[Genome], seed: int) -> set[tuple[str, str]]:
    rng = np.random.default_rng(seed)
    held_out = set()
    for kind in KINDS:
        groups = sorted({genome.group for genome in genomes if genome.kind == kind})
        held_out |= {(kind, str(name)) for name in rng.choice(groups, len(groups) // 5, False)}
    return held_out


def counts(genomes: list[Genome]) -> dict[str, list[int]]:
    """Of each kind: genomes, and their nt."""
    return {
        kind: [len(lengths), sum(lengths)]
        for kind in KINDS
        for lengths in [[len(genome.dna) for genome in genomes if genome.kind == kind]]
    }


def learn(genomes: list[Genome], options: argparse.Namespace) -> Any:
    base = draw_encoders(options.work / "base", options.width, options.seed)
    groups = options.work / "groups.tsv"
    rows = (f"{genome.id}\t{genome.kind} {genome.group}\n" for genome in genomes)
    groups.write_text("".join(rows))
    files = {}
    for kind in KINDS:
        of_kind = (Record(0, genome.id, genome.dna) for genome in genomes if genome.kind == kind)
        files[kind] = write_fasta(options.work / f"{kind}.fa", of_kind)
    recipe = ClassifierRecipe(hidden=128, epochs=options.epochs, patience=4, seed=options.seed)
    way = TrainingOptions(groups=groups, recipe=recipe)
    flags = {"model": str(base), "cluster.kind": "none", "cluster.threads": 1}
    return train(
        [files["phage"]],
        [files["prokaryote"]],
        options.work / "trained",
        settings=load_settings(flags=flags),
        options=way,
    )


def draw_encoders(folder: Path, width: int, seed: int) -> Path:
    """Encoders of n-grams: each n-gram has a random direction; the classifier says nothing."""
    folder.mkdir()
    draw = torch.Generator().manual_seed(seed)
    for file, tables in (("nucleotide", DNA_TABLES), ("peptide", PEPTIDE_TABLES)):
        drawn = {name: torch.randn(n, width, generator=draw) * 40 for name, n in tables.items()}
        save_file({k: v.half() for k, v in drawn.items()}, folder / f"{file}.safetensors")
    dna, peptide = 3 * width, width
    save_file(Classifier(dna + peptide, 4).state_dict(), folder / "classifier.safetensors")
    config = {"width": width}
    info = ModelSetInfo(
        name="base",
        version="1",
        chunk_lengths=(500,),
        nucleotide=EncoderSpec("dna_ngrams", dna, "nucleotide.safetensors", config),
        peptide=EncoderSpec("peptide_ngrams", peptide, "peptide.safetensors", config),
        classifier=ClassifierSpec("classifier.safetensors", 4),
        licence="none",
        training_data="none",
    )
    write_info(folder, info)
    return folder


def plain_copies(folder: Path, work: Path) -> Iterator[Path]:
    """The set without its contig model; and without the calibration of means, which has ties."""
    for name, left_out in (("by_mean", {}), ("by_mean_uncalibrated", {"calibration": None})):
        shutil.copytree(folder, work / name)
        info = replace(read_info(folder), name=name, contig_model=None, **left_out)
        write_info(work / name, info)
        yield work / name


def measure(
    genomes: list[Genome], sets: tuple[Path, ...], options: argparse.Namespace
) -> dict[str, Any]:
    """By length in nt and by set: figures of contigs of the genomes."""
    rng = np.random.default_rng(options.seed)
    files: dict[str, list[Path]] = {kind: [] for kind in KINDS}
    for nt in options.lengths:
        for kind, of_kind in files.items():
            contigs = cut(genomes, kind, nt, options.contigs, rng)
            of_kind.append(write_fasta(options.work / f"{kind}-{nt}.fa", contigs))
    settings = load_settings(flags={"cluster.kind": "none", "cluster.threads": 1})
    out = options.work / "quality"
    content = evaluate(sets, files["phage"], files["prokaryote"], out, settings)
    found: dict[str, Any] = {str(nt): {} for nt in options.lengths}
    for evaluation in content["evaluations"]:
        for pair in evaluation["pairs"]["contigs"]:
            nt, others = (
                pair[side].rpartition("-")[2].partition(".")[0] for side in ("virus", "others")
            )
            if nt == others:
                figures = {name: pair[name] for name in FIGURES if name in pair}
                found[nt][evaluation["modelset"]["name"]] = figures
    return found


def cut(
    genomes: list[Genome], kind: str, nt: int, most: int, rng: np.random.Generator
) -> list[Record]:
    """Contigs that do not overlap, of about ``nt``: from nine tenths of it to eleven."""
    found = []
    for genome in genomes:
        at = int(rng.integers(nt))
        while genome.kind == kind and at + 1.1 * nt <= len(genome.dna):
            end = at + int(rng.integers(int(0.9 * nt), int(1.1 * nt) + 1))
            found.append(Record(0, f"{genome.id}_{at}_{nt}", genome.dna[at:end]))
            at = end
    return [found[place] for place in rng.permutation(len(found))[:most]]


if __name__ == "__main__":
    main()
