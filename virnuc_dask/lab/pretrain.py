"""A recipe → a model set that reads genes, measured on groups that were held out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from virnuc_dask.config import cores
from virnuc_dask.errors import OutputExistsError
from virnuc_dask.lab import (
    false_regions,
    gene_classifier,
    insertions,
    pretrained_set,
    regions,
    short_pieces,
)
from virnuc_dask.lab.chances import chances
from virnuc_dask.lab.contig_figures import Judged, figures
from virnuc_dask.lab.modelset_folders import own_files, put_in_place
from virnuc_dask.lab.out_of_fold import Source, gather, learn_words
from virnuc_dask.lab.prepare import prepare
from virnuc_dask.lab.pretrained_set import EVIDENCE, RELIABLE, Parts
from virnuc_dask.lab.read_contigs import Contigs, Learnt, gene_columns, learn_reader
from virnuc_dask.lab.recipe import NOISE, PROPHAGE, Recipe
from virnuc_dask.lab.taught import TEST, Flags, Fragments, Prepared
from virnuc_dask.modelsets.calibration import probability
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.gene_sums import GeneColumns
from virnuc_dask.modelsets.manifest import FRAMES, GENES
from virnuc_dask.sequences.genes import PYRODIGAL
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.tables.parquet import write_text, written_whole

_FRAME_LENGTHS_NT = (150, 200, 300, 500)
_PIECES = 80_000  # whose frames are learnt from
_NOISE_SHARE = 0.02  # of the genes that the classifier learns from
_FIGURES = "figures.json"
_FEWEST_CALLED = 500  # prokaryote contigs that so small a share is told from
_NEW = {"new groups": TEST, "new species": TEST - 1}  # what is tested on, and its fold


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that a model set is learnt from, once words are."""

    fragments: Fragments
    genes: pa.Table
    frames: pa.Table
    gene_features: NDArray[np.float32]  # each of words that had not seen the gene
    frame_features: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is learnt of features, and what it says of all that it was learnt from."""

    parts: Parts
    columns: GeneColumns  # of all genes, with their evidence
    readers: dict[str, tuple[Contigs, Learnt]]


def train(recipe: Recipe, *, force: bool = False) -> Path:
    """Make a recipe's model set, and return its folder; its card says how good it is.

    Words are learnt without each part of the data, so that each gene has a score of words that have
    not seen it. A first model set is learnt without the tests, and measured; then one on
    everything. What is made on the way is kept in the work folder, in folders for all that they
    were made from: a training that was stopped goes on from there.

    `OutputExistsError` if the folder is there and shall not be replaced, or holds what is no model
    set's.
    """
    out = Path(recipe.out)
    if out.exists():
        if not force:
            raise OutputExistsError(f"{out}: exists; --force replaces the model set in it.")
        list(own_files(out))
    prepared = prepare(recipe, Path(recipe.work))
    source = _source(recipe, prepared)
    _draw_frames(source, recipe)
    learn_words(source, recipe.threads or cores())
    material = _material(source)
    part = material.fragments.part
    measured = source.kept / f"measured-{_digest(asdict(recipe.fit))}"
    if not (measured / _FIGURES).exists():
        fitted = _fit(material, part >= 0, recipe)
        found = _measure(material, fitted)
        found |= _measure_regions(material, fitted, recipe)
        pretrained_set.write(measured, source.file("words", TEST), fitted.parts, recipe, found)
        write_text(measured / _FIGURES, json.dumps(found, indent=2))
    found = json.loads((measured / _FIGURES).read_text(encoding="utf-8"))
    fitted = _fit(material, np.ones(len(part), np.bool_), recipe)
    new = source.kept / "new"
    pretrained_set.write(new, source.file("words", None), fitted.parts, recipe, found)
    put_in_place(new, out)
    return out


def _source(recipe: Recipe, prepared: Prepared) -> Source:
    made_from = [prepared.fingerprint, asdict(recipe.fit.words), recipe.seed, _PIECES]
    folder = Path(recipe.work) / f"words-{_digest(made_from)}"
    folder.mkdir(parents=True, exist_ok=True)
    return Source(prepared, folder, recipe.fit.words, recipe.seed, recipe.splits.folds)


def _digest(made_from: object) -> str:
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]


def _draw_frames(source: Source, recipe: Recipe) -> None:
    if source.frames.exists():
        return
    fragments = Fragments.read(source.prepared.fragments)
    kind = np.where(fragments.is_sure, fragments.kind, "")
    chance = chances(kind, fragments.group, recipe.fit.contigs.shares)
    frames = short_pieces.draw_frames(source.prepared.sequences, chance, _PIECES, recipe.seed)
    with written_whole(source.frames) as stream:
        pq.write_table(frames, stream)


def _material(source: Source) -> Material:
    genes, frames = source.prepared.genes, source.frames
    return Material(
        Fragments.read(source.prepared.fragments),
        _without_texts(genes),
        _without_texts(frames),
        gather(source, "genes", genes),
        gather(source, "frames", frames),
    )


def _without_texts(path: Path) -> pa.Table:
    names = pq.read_schema(path).names
    return pq.read_table(path, columns=[n for n in names if n not in ("dna", "peptide")])


def _fit(material: Material, is_used: Flags, recipe: Recipe) -> Fitted:
    """Learn all but words from the fragments that are used, if they are sure."""
    fragments, settings = material.fragments, recipe.fit
    classifier = _fit_classifier(material, is_used, recipe)
    evidence = _evidence(classifier, material.gene_features)
    viral_models = _viral_models(recipe.fragments.caller)
    columns = gene_columns(material.genes, viral_models, evidence)
    contigs = {
        GENES: _contigs_of_genes(material, columns),
        FRAMES: _contigs_of_frames(material, _evidence(classifier, material.frame_features)),
    }
    of_genes = settings.calibration
    calibration = {GENES: of_genes, FRAMES: replace(of_genes, lengths_nt=_FRAME_LENGTHS_NT)}
    is_taught, seed = is_used & fragments.is_sure, recipe.seed
    readers = {
        reading: (
            of,
            learn_reader(of, fragments, is_taught, settings.contigs, calibration[reading], seed),
        )
        for reading, of in contigs.items()
    }
    learnt = {reading: one.reader for reading, (_, one) in readers.items()}
    drawn = _drawn(material, is_used, recipe)
    found = regions.fit_regions(drawn, evidence, settings.regions.most_false)
    alone = insertions.unbroken(fragments, material.genes, is_used)
    called = _called(*readers[GENES], fragments, recipe)
    contig_model = ContigModel(learnt, viral_models, found)
    contig_model = false_regions.rated(contig_model, alone, columns, _rule(called))
    return Fitted(Parts(classifier, contig_model, called), columns, readers)


def _rule(called: tuple[tuple[float, float], ...]) -> CallRule:
    return CallRule(called=called, reliable=RELIABLE)


def _fit_classifier(material: Material, is_used: Flags, recipe: Recipe) -> Classifier:
    fragments, of = material.fragments, material.genes["fragment"].to_numpy()
    is_sure = fragments.is_virus[of] | ~material.genes["doubtful"].to_numpy()
    kind = np.where(is_used[of] & is_sure, fragments.kind[of], "")
    shares = recipe.fit.words.shares | {NOISE: _NOISE_SHARE}
    return gene_classifier.learn(
        material.gene_features,
        fragments.is_virus[of],
        chances(kind, fragments.group[of], shares),
        recipe.fit.classifier,
        recipe.seed,
    )


def _evidence(classifier: Classifier, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `stages.predict` makes it."""
    logit = gene_classifier.viral_logits(classifier, features)
    return np.column_stack([logit, features[:, list(EVIDENCE)]])


def _viral_models(caller: str) -> NDArray[np.int64]:
    """Numbers of the caller's gene models that were made for viruses."""
    if caller != PYRODIGAL:
        return np.zeros(0, np.int64)
    from pyrodigal_gv.meta import METAGENOMIC_BINS

    parts = [model.description.split("|") for model in METAGENOMIC_BINS]
    return np.array([int(number) for number, _, kind, *_ in parts if kind == "V"], np.int64)


def _contigs_of_genes(material: Material, columns: GeneColumns) -> Contigs:
    length = material.fragments.length_nt
    return Contigs.of(
        columns, material.genes["fragment"].to_numpy(), np.arange(len(length)), length
    )


def _contigs_of_frames(material: Material, evidence: NDArray[np.float32]) -> Contigs:
    frames = material.frames
    columns, piece = short_pieces.frame_columns(frames, evidence), frames["piece"].to_numpy()
    fragment, length = np.zeros(piece.max() + 1, np.int64), np.ones(piece.max() + 1)
    fragment[piece] = frames["fragment"].to_numpy()
    length[piece] = frames["length_nt"].to_numpy()
    return Contigs.of(columns, piece, fragment, length)


def _drawn(material: Material, is_used: Flags, recipe: Recipe) -> insertions.Drawn:
    many = recipe.fit.regions.insertions
    return insertions.draw(material.fragments, material.genes, is_used, many, recipe.seed)


def _called(
    contigs: Contigs, learnt: Learnt, fragments: Fragments, recipe: Recipe
) -> tuple[tuple[float, float], ...]:
    """The probability from which on few enough prokaryote contigs of a length are called viruses.

    It never rises with length, and ends at one half, from twice the longest of these lengths on.
    """
    settings = recipe.fit.calibration
    known = fragments.judged_kind[contigs.fragment] == "prokaryote"
    known &= ~np.isnan(learnt.evidence)
    pairs: list[tuple[float, float]] = []
    for least_nt, end_nt in pairwise(settings.called_bounds_nt):
        chosen = known & (contigs.length_nt >= least_nt) & (contigs.length_nt < end_nt)
        if chosen.sum() < _FEWEST_CALLED:
            continue
        highest = np.quantile(learnt.evidence[chosen], 1 - settings.others_called)
        chance = round(float(probability(np.array([highest]))[0]), 4)
        middle = round(float(np.sqrt(least_nt * end_nt)), 1)
        pairs.append((middle, min([chance, *(earlier for _, earlier in pairs)])))
    if not pairs:
        return ((1, 0.5),)
    return (*pairs, (2.0 * settings.called_bounds_nt[-1], min(0.5, pairs[-1][1])))


def _measure(material: Material, fitted: Fitted) -> dict[str, Any]:
    """Figures of new groups, of new species of known ones, and of prophages beside their hosts.

    The first two are of the tests. Prophages are too few there: those of the other parts are
    judged by words and contig models that had not seen their part.
    """
    fragments, found, rule = material.fragments, {}, _rule(fitted.parts.called)
    for reading, (contigs, learnt) in fitted.readers.items():
        judged = _judged(contigs, learnt, fragments)
        fold, group = (column[contigs.fragment] for column in (fragments.fold, fragments.group))
        rows = {name: (fold == of) & (judged.kind != "") for name, of in _NEW.items()}
        is_prophage = judged.kind == PROPHAGE
        is_host = (judged.kind == "prokaryote") & np.isin(group, group[is_prophage])
        rows["prophages"] = is_host | is_prophage
        for name, chosen in rows.items():
            if chosen.any():
                found[f"{reading}, {name}"] = figures(judged.take(chosen), rule)
    return found


def _judged(contigs: Contigs, learnt: Learnt, fragments: Fragments) -> Judged:
    """All contigs: the tests' by the whole reader, others by one that had not seen their part."""
    reader, length = learnt.reader, contigs.length_nt
    whole = reader.calibration.of(reader.score(contigs.features), length)
    return Judged(
        kind=fragments.judged_kind[contigs.fragment],
        length_nt=length,
        evidence=np.where(np.isnan(learnt.evidence), whole, learnt.evidence),
        reliability=reader.familiarity.reliability(contigs.features, length),
    )


def _measure_regions(material: Material, fitted: Fitted, recipe: Recipe) -> dict[str, Any]:
    """Figures of regions and of their q-values, in the tests' new groups and new species."""
    contig_model, columns, found = fitted.parts.contig_model, fitted.columns, {}
    for name, fold in _NEW.items():
        is_used = material.fragments.fold == fold
        drawn = _drawn(material, is_used, recipe)
        if (model := contig_model.regions) is None or not len(drawn.insertions):
            continue
        alone = insertions.unbroken(material.fragments, material.genes, is_used)
        hosts, both = (
            false_regions.find_regions(of, columns, contig_model, _rule(fitted.parts.called))
            for of in (alone, drawn.insertions)
        )
        found[f"regions, {name}"] = {
            **regions.figures(model, columns.evidence, drawn),
            "q_values": false_regions.discoveries(model, hosts, both, recipe.seed),
        }
    return found
