"""Every setting of a training of ``mini``; a YAML file holds them under ``pretrain:``.

Paths are relative to where the command is run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from virnuc_dask.config import Section, at_least, read_preset
from virnuc_dask.errors import BadSettingError

# Kinds of genome, as the table of genomes and the settings name them; the first two are viruses.
GENOMES = ("phage", "eukaryotic_virus", "prokaryote", "plasmid", "eukaryote")
VIRUSES = GENOMES[:2]
NOISE = "noise"  # the class of DNA that no organism has
PROPHAGE = "prophage"  # the class of stretches of prokaryotes that are viral


def _shares(where: str, section: Section, names: tuple[str, ...], most: float = 1.0) -> None:
    for name in names:
        if not 0 < getattr(section, name) <= most:
            raise BadSettingError(f"{where}.{name} must be above 0 and at most {most:g}.")


@dataclass(frozen=True, slots=True)
class DataSettings(Section):
    """Where genomes and genes come from, and which may not be used."""

    table: str = ""  # record, class, group, source, length_nt, phage_24mers: tab-separated
    phage: tuple[str, ...] = ()  # FASTA files, as are the next four
    eukaryotic_virus: tuple[str, ...] = ()
    prokaryote: tuple[str, ...] = ()
    plasmid: tuple[str, ...] = ()
    eukaryote: tuple[str, ...] = ()
    markers: str | None = None  # MetaPhlAn's markers.fasta: names tell the labels
    sha256: tuple[str, ...] = ()  # of these files, in this order; none: not compared
    exclude_names: str | None = None  # names never to be used, one a line
    exclude_similar: tuple[str, ...] = ()  # FASTA: what shares 24-mers with them is never used
    exclude_shared: int = 3  # so many 24-mers are enough

    def __post_init__(self) -> None:
        at_least("data.exclude_shared", self.exclude_shared, 1)
        needed = ("table", "phage", "prokaryote")
        if missing := [name for name in needed if not getattr(self, name)]:
            raise BadSettingError(f"data needs {', '.join(f'`{name}`' for name in missing)}.")

    def files(self, kind: str) -> tuple[str, ...]:
        """The FASTA files of a kind of genome."""
        files: tuple[str, ...] = getattr(self, kind)
        return files

    @property
    def sources(self) -> tuple[str, ...]:
        """All files that are trained on, in the order of ``sha256``."""
        genomes = [path for kind in GENOMES for path in self.files(kind)]
        return (self.table, *genomes, *([self.markers] if self.markers else ()))


@dataclass(frozen=True, slots=True)
class CoverageSettings(Section):
    """How often each base of a kind of genome is in a fragment, on average."""

    phage: float = 4.0
    eukaryotic_virus: float = 2.0
    prokaryote: float = 1.0
    plasmid: float = 0.8
    eukaryote: float = 0.4
    noise: float = 1.0

    def __post_init__(self) -> None:
        _shares("fragments.coverage", self, (*GENOMES, NOISE), 20.0)


@dataclass(frozen=True, slots=True)
class FragmentSettings(Section):
    """How genomes are cut into contigs, and who finds genes in them."""

    shortest_nt: int = 300
    longest_nt: int = 20_000  # lengths are drawn evenly on a scale of logarithms
    coverage: CoverageSettings = field(default_factory=CoverageSettings)
    noise_nt: int = 8_000_000  # shuffled, of the same dinucleotides, random, repeated: in all
    caller: str = "pyrodigal-gv"
    models: tuple[int, ...] = ()  # of the caller; none: all

    def __post_init__(self) -> None:
        at_least("fragments.shortest_nt", self.shortest_nt, 60)
        at_least("fragments.longest_nt", self.longest_nt, self.shortest_nt)
        at_least("fragments.noise_nt", self.noise_nt, 0)


@dataclass(frozen=True, slots=True)
class ProphageSettings(Section):
    """Which stretches of prokaryotes and plasmids may be viral: genes that resemble phages'."""

    sensitivity: float = 3.5  # of MMseqs2
    e_value: float = 1e-5
    coverage: float = 0.5  # of the shorter protein
    bits: int = 60
    shortest_residues: int = 40  # a shorter protein is not compared
    window: int = 13  # neighbouring genes
    doubtful: int = 3  # so many hits of a window: neither taught nor tested as others
    prophage: int = 5  # so many: a virus
    phage_24mers: int = 5  # a record that has more of them is doubtful

    def __post_init__(self) -> None:
        _shares("prophages", self, ("coverage",))
        if self.window % 2 == 0:
            raise BadSettingError("prophages.window must be odd: a gene and as many on each side.")
        if not 1 <= self.doubtful <= self.prophage <= self.window:
            raise BadSettingError("prophages needs 1 <= doubtful <= prophage <= window.")


@dataclass(frozen=True, slots=True)
class SplitSettings(Section):
    """How groups are held out."""

    test: float = 0.2  # of the groups
    folds: int = 5  # that the rest is in
    genomes: int = 3  # a group of so many gives one to the test of new species
    shared: float = 0.5  # if less of its 21-mers are in any other of the group

    def __post_init__(self) -> None:
        _shares("splits", self, ("shared",))
        at_least("splits.genomes", self.genomes, 2)
        if not 0 < self.test < 1:
            raise BadSettingError("splits.test must be between 0 and 1.")
        # A marker's similarities are kept in the bits of a byte, one of them the test's.
        if not 2 <= self.folds <= 5:
            raise BadSettingError("splits.folds must be from 2 to 5.")


@dataclass(frozen=True, slots=True)
class MarkerSettings(Section):
    """Which marker genes are used: all of viruses, some of others."""

    others: float = 0.08
    transcripts: float = 0.5
    shortest_residues: int = 30
    similar_words: int = 3  # so many 8-mers of residues shared with viruses of a fold

    def __post_init__(self) -> None:
        _shares("markers", self, ("others", "transcripts"))
        at_least("markers.similar_words", self.similar_words, 1)


@dataclass(frozen=True, slots=True)
class TestSettings(Section):
    """The contigs to measure on."""

    lengths_nt: tuple[int, ...] = (500, 1_000, 3_000, 5_000, 10_000, 20_000)
    prophage_lengths_nt: tuple[int, ...] = (3_000, 10_000)
    reads_nt: int = 300
    most: int = 3_000  # contigs of one class, length and kind of test
    most_nt: int = 9_000_000  # likewise

    def __post_init__(self) -> None:
        at_least("tests.most", self.most, 1)
        at_least("tests.reads_nt", self.reads_nt, 60)
        if not self.lengths_nt or min(*self.lengths_nt, *self.prophage_lengths_nt) < self.reads_nt:
            raise BadSettingError("tests.lengths_nt must be lengths, none below tests.reads_nt.")


@dataclass(frozen=True, slots=True)
class GeneShares(Section):
    """Of the genes that are drawn to learn words, how many are of each kind."""

    phage: float = 0.30
    eukaryotic_virus: float = 0.08
    viral_marker: float = 0.12
    prokaryote: float = 0.29
    plasmid: float = 0.09
    eukaryote: float = 0.05
    other_marker: float = 0.05
    transcript: float = 0.02


@dataclass(frozen=True, slots=True)
class ContigShares(Section):
    """Of the weight of all fragments, what is each kind's."""

    phage: float = 0.40
    eukaryotic_virus: float = 0.10
    prokaryote: float = 0.33
    plasmid: float = 0.12
    eukaryote: float = 0.05
    noise: float = 0.03


@dataclass(frozen=True, slots=True)
class WordSettings(Section):
    """How weighed words are learnt."""

    rounds: int = 5
    draws: int = 400_000  # genes, in each round
    first_rate: float = 0.25
    last_rate: float = 0.05
    word_dropout: float = 0.2
    label_smoothing: float = 0.03
    cropped: float = 0.5  # of the draws
    shortest_crop: float = 0.3  # of a gene
    shares: GeneShares = field(default_factory=GeneShares)

    def __post_init__(self) -> None:
        at_least("fit.words.rounds", self.rounds, 1)
        at_least("fit.words.draws", self.draws, 1)
        if not 0 <= self.word_dropout < 1:
            raise BadSettingError("fit.words.word_dropout must be from 0 to 1.")


@dataclass(frozen=True, slots=True)
class ClassifierSettings(Section):
    """How the classifier of genes is learnt."""

    hidden: int = 64
    steps: int = 2_500
    batch: int = 4_096
    rate: float = 6e-3
    label_smoothing: float = 0.02


@dataclass(frozen=True, slots=True)
class ContigSettings(Section):
    """How contigs' evidence is learnt: a logistic regression and boosted trees, averaged."""

    logistic_c: float = 0.05
    most_deviations: float = 6.0
    seeds: int = 2
    trees: int = 250
    leaves: int = 12
    rate: float = 0.06
    fewest_in_leaf: int = 60
    subsample: float = 0.7
    columns: float = 0.5
    ridge: float = 5.0
    shares: ContigShares = field(default_factory=ContigShares)


@dataclass(frozen=True, slots=True)
class CalibrationShares(Section):
    """Of the viruses, and of the others, that probabilities are for: as in metagenomes."""

    phage: float = 0.85
    eukaryotic_virus: float = 0.15
    prokaryote: float = 0.85
    plasmid: float = 0.09
    eukaryote: float = 0.05
    noise: float = 0.01


@dataclass(frozen=True, slots=True)
class CalibrationSettings(Section):
    """How evidence becomes a probability, by length."""

    lengths_nt: tuple[int, ...] = (300, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000)
    shares: CalibrationShares = field(default_factory=CalibrationShares)
    others_called: float = 0.008  # of prokaryote contigs, in each class of length
    # Between two neighbours is a class.
    called_bounds_nt: tuple[int, ...] = (
        300,
        700,
        1_500,
        3_000,
        4_500,
        7_000,
        12_000,
        16_000,
        20_001,
    )

    def __post_init__(self) -> None:
        _shares("fit.calibration", self, ("others_called",))


@dataclass(frozen=True, slots=True)
class FitSettings(Section):
    """All that is learnt from the fragments' genes."""

    words: WordSettings = field(default_factory=WordSettings)
    classifier: ClassifierSettings = field(default_factory=ClassifierSettings)
    contigs: ContigSettings = field(default_factory=ContigSettings)
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)


@dataclass(frozen=True, slots=True)
class Recipe(Section):
    """A whole training."""

    data: DataSettings
    name: str = "mini"
    version: str = "0.0.0"
    out: str = "mini"
    work: str = "mini-work"  # what is done so far; a training that was stopped goes on from there
    licence: str = ""
    notes: str = ""  # Markdown for the model card
    seed: int = 1
    threads: int | None = None  # default: all cores
    fragments: FragmentSettings = field(default_factory=FragmentSettings)
    prophages: ProphageSettings = field(default_factory=ProphageSettings)
    splits: SplitSettings = field(default_factory=SplitSettings)
    markers: MarkerSettings = field(default_factory=MarkerSettings)
    tests: TestSettings = field(default_factory=TestSettings)
    fit: FitSettings = field(default_factory=FitSettings)

    def __post_init__(self) -> None:
        at_least("threads", self.threads, 1)
        at_least("seed", self.seed, 0)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises
    ------
    BadInputError
        If the file cannot be read.
    BadSettingError
        If it is no YAML file, holds unknown settings or settings that make no sense.
    """
    values = read_preset(path, "pretrain")
    if "data" not in values:
        raise BadSettingError(f"{path}: pretrain needs `data`: where genomes come from.")
    return Recipe.of(values, "pretrain")
