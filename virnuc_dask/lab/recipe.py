"""Every setting of a training of ``mini``; a YAML file holds them under ``pretrain:``.

Paths are relative to where the command is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from virnuc_dask.checks import Section, checked, setting
from virnuc_dask.config import read_preset, settings_of

# Kinds of genome, as the table of genomes and the settings name them; the first two are viruses.
GENOMES = ("phage", "eukaryotic_virus", "prokaryote", "plasmid", "eukaryote")
VIRUSES = GENOMES[:2]
NOISE = "noise"  # the class of DNA that no organism has
PROPHAGE = "prophage"  # the class of stretches of prokaryotes that are viral

_Share = Annotated[float, Field(gt=0, le=1)]
_Length = Annotated[int, Field(ge=60)]
_Count = Annotated[int, Field(ge=1)]
_Files = tuple[str, ...]
_Lengths = tuple[int, ...]
_Shares = dict[str, _Share]
_DEFAULT = Field({}, validate_default=True)  # what `_by_kind` has


def _by_kind(**default: float) -> AfterValidator:
    """A number for each of these kinds: this one where a recipe does not say."""

    def whole(said: dict[str, float]) -> dict[str, float]:
        if unknown := sorted(set(said) - set(default)):
            raise ValueError(f"knows no {', '.join(unknown)}; known: {', '.join(default)}")
        return default | said

    return AfterValidator(whole)


# How often each base of a genome is in a fragment, on average.
_COVERAGE = _by_kind(
    phage=4.0, eukaryotic_virus=2.0, prokaryote=1.0, plasmid=0.8, eukaryote=0.4, noise=1.0
)
# Of the genes that are drawn to learn words.
_DRAWN_GENES = _by_kind(
    phage=0.30,
    eukaryotic_virus=0.08,
    viral_marker=0.12,
    prokaryote=0.29,
    plasmid=0.09,
    eukaryote=0.05,
    other_marker=0.05,
    transcript=0.02,
)
# Of the weight of all fragments.
_WEIGHED_CONTIGS = _by_kind(
    phage=0.40, eukaryotic_virus=0.10, prokaryote=0.33, plasmid=0.12, eukaryote=0.05, noise=0.03
)
# Of the viruses, and of the others, that probabilities are for.
_IN_METAGENOMES = _by_kind(
    phage=0.85, eukaryotic_virus=0.15, prokaryote=0.85, plasmid=0.09, eukaryote=0.05, noise=0.01
)


@checked
class DataSettings(Section):
    """Where genomes and genes come from, and which may not be used."""

    table: str  # record, class, group, source, phage_24mers: tab-separated
    phage: Annotated[_Files, Field(min_length=1)]  # FASTA files, as are the next four
    prokaryote: Annotated[_Files, Field(min_length=1)]
    eukaryotic_virus: _Files = ()
    plasmid: _Files = ()
    eukaryote: _Files = ()
    markers: str | None = setting(None, "MetaPhlAn's markers.fasta: names tell the labels.")
    sha256: _Files = setting((), "Of these files, in this order; none: not compared.")
    exclude_names: str | None = setting(None, "Names never to be used, one a line.")
    exclude_similar: _Files = setting((), "FASTA: what shares 24-mers with them is never used.")
    exclude_shared: _Count = setting(3, "So many 24-mers are enough.")

    def files(self, kind: str) -> tuple[str, ...]:
        """The FASTA files of a kind of genome."""
        return tuple(getattr(self, kind))

    @property
    def sources(self) -> tuple[str, ...]:
        """All files that are trained on, in the order of ``sha256``."""
        genomes = [path for kind in GENOMES for path in self.files(kind)]
        return (self.table, *genomes, *([self.markers] if self.markers else ()))


@checked
class FragmentSettings(Section):
    """How genomes are cut into contigs, and who finds genes in them."""

    shortest_nt: _Length = 300
    longest_nt: int = setting(20_000, "Lengths are drawn evenly on a scale of logarithms.")
    coverage: Annotated[dict[str, Annotated[float, Field(gt=0, le=20)]], _COVERAGE] = _DEFAULT
    noise_nt: int = setting(8_000_000, "DNA that no organism has, in all.", ge=0)
    caller: str = "pyrodigal-gv"
    models: tuple[int, ...] = setting((), "Of the caller; none: all.")


@checked
class ProphageSettings(Section):
    """Which stretches of prokaryotes and plasmids may be viral: genes that resemble phages'."""

    sensitivity: float = setting(3.5, "Of MMseqs2.")
    e_value: float = 1e-5
    coverage: _Share = setting(0.5, "Of the shorter protein.")
    bits: int = 60
    shortest_residues: int = setting(40, "A shorter protein is not compared.")
    window: int = setting(13, "Neighbouring genes.")
    doubtful: int = setting(3, "So many hits of a window: neither taught nor tested as others.")
    prophage: int = setting(5, "So many: a virus.")
    phage_24mers: int = setting(5, "A record that has more of them is doubtful.")


@checked
class SplitSettings(Section):
    """How groups are held out."""

    test: float = setting(0.2, "Of the groups.", gt=0, lt=1)
    # A marker's similarities are kept in 16 bits, one of them the test's.
    folds: int = setting(10, "That the rest is in.", ge=2, le=15)
    genomes: int = setting(3, "A group of so many gives one to the test of new species.", ge=2)
    shared: _Share = setting(0.5, "If less of its 21-mers are in any other of the group.")


@checked
class MarkerSettings(Section):
    """Which marker genes are used: all of viruses, some of others."""

    others: _Share = 0.08
    transcripts: _Share = 0.5
    shortest_residues: int = 30
    similar_words: _Count = setting(3, "So many 8-mers of residues shared with viruses of a fold.")


@checked
class WordSettings(Section):
    """How weighed words are learnt."""

    rounds: _Count = 5
    draws: _Count = setting(400_000, "Genes, in each round.")
    first_rate: float = 0.25
    last_rate: float = 0.05
    word_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    label_smoothing: float = 0.03
    cropped: float = setting(0.5, "Of the draws.")
    shortest_crop: float = setting(0.3, "Of a gene.")
    shares: Annotated[_Shares, _DRAWN_GENES] = _DEFAULT


@checked
class ClassifierSettings(Section):
    """How the classifier of genes is learnt."""

    hidden: int = 64
    steps: int = 2_500
    batch: int = 4_096
    rate: float = 6e-3
    label_smoothing: float = 0.02


@checked
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
    shares: Annotated[_Shares, _WEIGHED_CONTIGS] = _DEFAULT


@checked
class CalibrationSettings(Section):
    """How evidence becomes a probability, by length."""

    lengths_nt: _Lengths = (300, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000)
    shares: Annotated[_Shares, _IN_METAGENOMES] = _DEFAULT
    others_called: _Share = setting(0.004, "Of prokaryote contigs, in each class of length.")
    # Between two neighbours is a class.
    called_bounds_nt: _Lengths = (300, 700, 1_500, 3_000, 4_500, 7_000, 12_000, 16_000, 20_001)


@checked
class RegionSettings(Section):
    """How regions are learnt and measured: on phages that are put into prokaryotes."""

    insertions: int = setting(600, "Of each fold; for every four a phage is alone.", ge=4)
    most_false: float = setting(0.75, "Regions in a megabase of prokaryotes alone.", gt=0)


@checked
class FitSettings(Section):
    """All that is learnt from the fragments' genes."""

    words: WordSettings = Field(default_factory=WordSettings)
    classifier: ClassifierSettings = Field(default_factory=ClassifierSettings)
    contigs: ContigSettings = Field(default_factory=ContigSettings)
    calibration: CalibrationSettings = Field(default_factory=CalibrationSettings)
    regions: RegionSettings = Field(default_factory=RegionSettings)


@checked
class Recipe(Section):
    """A whole training."""

    data: DataSettings
    name: str = "mini"
    version: str = "0.0.0"
    out: str = "mini"
    work: str = setting("mini-work", "What is done so far: a stopped training goes on from it.")
    licence: str = ""
    notes: str = setting("", "Markdown for the model card.")
    seed: Annotated[int, Field(ge=0)] = 1
    threads: _Count | None = setting(None, "Default: all cores.")
    fragments: FragmentSettings = Field(default_factory=FragmentSettings)
    prophages: ProphageSettings = Field(default_factory=ProphageSettings)
    splits: SplitSettings = Field(default_factory=SplitSettings)
    markers: MarkerSettings = Field(default_factory=MarkerSettings)
    fit: FitSettings = Field(default_factory=FitSettings)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    `BadInputError` if the file cannot be read. `BadSettingError` if it is no YAML file, holds
    unknown settings or settings that make no sense.
    """
    return settings_of(Recipe, read_preset(path, "pretrain"), "pretrain")
