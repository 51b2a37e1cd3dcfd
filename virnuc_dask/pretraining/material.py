"""What a pretraining learns from and is measured on: genes read, split, and kept as FASTA."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from virnuc_dask.errors import BadInputError
from virnuc_dask.pretraining.contigs import draw_contigs
from virnuc_dask.pretraining.doubtful import doubtful_genes
from virnuc_dask.pretraining.genes import (
    GENOME,
    OTHER,
    TEST,
    TRAIN,
    TRANSCRIPT,
    VALIDATION,
    VIRUS,
    Exclusions,
    Gene,
    count_genes,
    digest_of,
    read_genes,
    require_own_names,
)
from virnuc_dask.pretraining.homology import Likeness, Split, split_genes
from virnuc_dask.pretraining.noise import random_bases, same_dinucleotides, shuffled_bases
from virnuc_dask.pretraining.recipe import DataSettings, PretrainSettings, SplitSettings
from virnuc_dask.pretraining.windows import codes_of
from virnuc_dask.sequences.records import read_records
from virnuc_dask.tables.parquet import written_whole
from virnuc_dask.training.genbank import is_genbank, read_genbank
from virnuc_dask.training.training_records import read_group_names

log = logging.getLogger(__name__)

_NOISE = {
    "shuffled": shuffled_bases,
    "same_dinucleotides": same_dinucleotides,
    "random": random_bases,
}
_NOISE_WINDOWS, _NOISE_NT = 20_000, 500
PHAGES, OTHER_VIRUSES = "phages", "other_viruses"
_GROUPS = {OTHER: "prokaryotes", TRANSCRIPT: "transcripts", GENOME: "genomes"}


@dataclass(frozen=True, slots=True)
class Material:
    """Genes by side of the split, and what a model card tells of them."""

    parts: dict[str, list[Gene]]
    phages: frozenset[str]  # genomes of `TEST` and `VALIDATION` with prokaryotic relatives
    left_out: Mapping[str, int]
    sha256: Mapping[str, str]
    groups: Mapping[str, str]  # of genomes of others that are measured apart
    doubtful: frozenset[str] = frozenset()  # names of others that resemble a viral gene

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Genes by side of the split and kind."""
        return count_genes(self.parts)

    def without_doubtful(self, part: str) -> Material:
        """The same without the `doubtful` genes of one side."""
        kept = [gene for gene in self.parts[part] if gene.name not in self.doubtful]
        return replace(self, parts=self.parts | {part: kept})

    def described(self, seed: int) -> str:
        """The files and the seed in one line, for ``modelset.json``."""
        files = (f"{name} (SHA-256 {digest})" for name, digest in self.sha256.items())
        return f"{', '.join(files)}; seed {seed}"

    def group_of(self, kind: str, genome: str) -> str:
        """What a gene or contig is counted under when a model set is measured."""
        if kind == VIRUS:
            return PHAGES if genome in self.phages else OTHER_VIRUSES
        return self.groups.get(genome, _GROUPS[kind])


def gather(settings: PretrainSettings, work: Path) -> Material:
    """Read all sequences and split them; a split in ``work`` of the same genes is kept.

    Raises
    ------
    BadInputError
        If a file is missing, unreadable, or not the one whose SHA-256 is given, or a side of the
        split has no viral or no other gene.
    UsageError
        If MMseqs2 is needed and missing.
    """
    data = settings.data
    exclusions = Exclusions.read(
        Path(data.exclude_names) if data.exclude_names else None, map(Path, data.exclude_similar)
    )
    labelled = {VIRUS: _paths(data.virus), OTHER: _paths(data.other)}
    markers = Path(data.markers) if data.markers else None
    found = read_genes(markers, labelled, exclusions, data.most_per_genome)
    genomes = {TRAIN: data.genomes, VALIDATION: data.validation_genomes}
    require_own_names(_paths(_files(data)))
    sha256 = dict(found.sha256) | {
        Path(path).name: _sha256(Path(path)) for paths in genomes.values() for path in paths
    }
    _compare(sha256, data)
    log.info("%d genes; left out: %s", len(found.genes), dict(found.left_out))
    split = _split(found.genes, settings, work)
    parts = {part: [found.genes[n] for n in chosen] for part, chosen in split.parts.items()}
    left_out = dict(found.left_out) | {"similar to a held-out gene": split.left_out}
    doubtful: frozenset[str] = frozenset()
    if data.calibrate_on_sure:
        alike, path = _likeness(settings.split), work / "doubtful.json"
        doubtful = doubtful_genes(found.genes, parts, alike, settings.threads, path)
        count = sum(gene.name in doubtful for gene in parts[VALIDATION])
        left_out["of the calibration alone, similar to a viral gene"] = count
    parts = {part: [*genes, *_genomes(genomes.get(part, ()))] for part, genes in parts.items()}
    groups = read_group_names(Path(data.groups)) if data.groups else {}
    material = Material(parts, split.phages, left_out, sha256, groups, doubtful)
    _require_both_labels(material)
    log.info("split: %s; similar to a held-out gene: %d", material.counts, split.left_out)
    return material


@dataclass(frozen=True, slots=True)
class Sample:
    """Files for `virnuc_dask.train`: genes of both classes, and each one's genome."""

    virus: tuple[Path, ...]
    other: tuple[Path, ...]
    groups: Path


def write_sample(material: Material, most: int, folder: Path, seed: int) -> Sample:
    """At most so many genes of the training side, half of them viral, with their genomes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths, lines = {}, []
    for is_virus in (True, False):
        genes = [g for g in material.parts[TRAIN] if g.is_virus == is_virus and g.kind != GENOME]
        chosen = [genes[index] for index in rng.permutation(len(genes))[: most // 2].tolist()]
        paths[is_virus] = folder / ("virus.fasta" if is_virus else "other.fasta")
        text = "".join(f">{gene.name}\n{gene.dna}\n" for gene in chosen)
        paths[is_virus].write_text(text, encoding="ascii")
        lines += [f"{gene.name}\t{gene.genome}\n" for gene in chosen]
    groups = folder / "genomes.tsv"
    groups.write_text("".join(lines), encoding="ascii")
    return Sample((paths[True],), (paths[False],), groups)


def write_contigs(material: Material, part: str, folder: Path) -> dict[str, Path]:
    """Draw contigs of one side of the split; a FASTA file for each group, by its name."""
    records: dict[str, list[tuple[str, str]]] = {}
    for contig in draw_contigs(material.parts[part]):
        group = material.group_of(contig.kind, contig.genome)
        records.setdefault(group, []).append((contig.name, contig.dna))
    return _write_groups(records, folder)


def write_genes(material: Material, part: str, folder: Path) -> dict[str, Path]:
    """The genes of one side of the split; a FASTA file for each group, by its name."""
    records: dict[str, list[tuple[str, str]]] = {}
    for gene in material.parts[part]:
        if gene.kind != GENOME:
            group = material.group_of(gene.kind, gene.genome)
            records.setdefault(group, []).append((gene.name, gene.dna))
    return _write_groups(records, folder)


def write_noise(material: Material, part: str, folder: Path) -> dict[str, Path]:
    """Noise made from genes of one side of the split; a FASTA file for each kind of it.

    Raises
    ------
    BadInputError
        If no gene is long enough.
    """
    pieces = [g.dna[:_NOISE_NT] for g in material.parts[part] if len(g.dna) >= _NOISE_NT]
    if not pieces:
        raise BadInputError(f"no {part} gene has {_NOISE_NT} nt, from which noise is made.")
    rng = np.random.default_rng(0)
    codes, _ = codes_of([pieces[i] for i in rng.integers(len(pieces), size=_NOISE_WINDOWS)])
    records = {}
    for name, make in _NOISE.items():
        made = np.frombuffer(b"ACGT", np.uint8)[make(codes, rng)]
        records[name] = [(f"{name}_{n}", dna.tobytes().decode()) for n, dna in enumerate(made)]
    return _write_groups(records, folder)


def _split(genes: Sequence[Gene], settings: PretrainSettings, work: Path) -> Split:
    """Split the genes, or read the split that was made of them before."""
    wanted = settings.split
    shares = {TEST: wanted.test, VALIDATION: wanted.validation}
    digest = digest_of(genes, asdict(wanted))
    path = work / "split.json"
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["genes"] == digest:
            return Split(kept["parts"], kept["left_out"], frozenset(kept["phages"]))
    log.info("splitting %d genes by homology", len(genes))
    split = split_genes(genes, shares, _likeness(wanted), settings.threads)
    content = {
        "genes": digest,
        "left_out": split.left_out,
        "phages": sorted(split.phages),
        "parts": split.parts,
    }
    with written_whole(path) as stream:
        stream.write(json.dumps(content).encode())
    return split


def _likeness(split: SplitSettings) -> Likeness:
    return Likeness(split.identity, split.coverage, split.sensitivity)


def _genomes(paths: Iterable[str]) -> list[Gene]:
    return [
        Gene(record.id, record.dna.upper(), GENOME, Path(path).name)
        for path in paths
        for record in (read_genbank(path) if is_genbank(path) else read_records([path]))
    ]


def _compare(sha256: Mapping[str, str], data: DataSettings) -> None:
    """Refuse other files than those that the settings describe."""
    if not data.sha256:
        return
    if len(data.sha256) != len(sha256):
        raise BadInputError(f"data.sha256 has {len(data.sha256)} entries for {len(sha256)} files.")
    for (name, found), wanted in zip(sha256.items(), data.sha256, strict=True):
        if found != wanted:
            raise BadInputError(
                f"{name}: its SHA-256 is {found}, data.sha256 names {wanted}; get that version, or "
                "change the settings."
            )


def _write_groups(
    records: Mapping[str, Sequence[tuple[str, str]]], folder: Path
) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for group, pairs in sorted(records.items()):
        paths[group] = folder / f"{group}.fasta"
        text = "".join(f">{name}\n{dna}\n" for name, dna in pairs)
        paths[group].write_text(text, encoding="ascii")
    return paths


def _files(data: DataSettings) -> list[str]:
    markers = [data.markers] if data.markers else []
    return [*markers, *data.virus, *data.other, *data.genomes, *data.validation_genomes]


def _require_both_labels(material: Material) -> None:
    for part, of_kind in material.counts.items():
        others = sum(of_kind.values()) - of_kind[VIRUS]
        for label, count in (("viral", of_kind[VIRUS]), ("other", others)):
            if not count:
                raise BadInputError(
                    f"no {label} gene is left for {part}; give genes of more genomes, or change "
                    "the shares in `split`."
                )


def _paths(names: Iterable[str]) -> list[Path]:
    return [Path(name) for name in names]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read: {error.strerror}.") from error
