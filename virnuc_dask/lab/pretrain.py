"""A recipe → a model set that reads genes, measured on groups that were held out.

    python -m virnuc_dask.lab.mini configs/mini.yaml

Words are learnt without each part of the data, so that each gene has a score of words that have
not seen it. A first model set is learnt without the tests, and measured; then, with the same
recipe, one on everything. What is made on the way is kept in the work folder, in a folder for all
that it was made from: a training that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import shutil
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_tensors

from virnuc_dask.encoders.encoder import EncoderSpec
from virnuc_dask.encoders.words import CLASSES, KNOWN_VALUES
from virnuc_dask.errors import OutputExistsError
from virnuc_dask.lab import gene_classifier, insertions, region_figures, short_pieces
from virnuc_dask.lab.contig_figures import Judged, figures
from virnuc_dask.lab.contig_fit import gene_columns
from virnuc_dask.lab.mini_card import card
from virnuc_dask.lab.modelset_folders import own_files, put_in_place
from virnuc_dask.lab.out_of_fold import Source, gather, learn_words, part_of
from virnuc_dask.lab.prepare import Prepared, prepare
from virnuc_dask.lab.read_contigs import Contigs, Learnt, learn_reader
from virnuc_dask.lab.recipe import NOISE, PROPHAGE, Recipe, read_recipe
from virnuc_dask.lab.region_fit import fit_regions
from virnuc_dask.lab.taught import TEST, Flags, Fragments
from virnuc_dask.lab.weighed_words import chances
from virnuc_dask.modelsets.calibration import probability
from virnuc_dask.modelsets.classifier import Classifier
from virnuc_dask.modelsets.contig_model import ContigModel
from virnuc_dask.modelsets.manifest import (
    FRAMES,
    GENES,
    ClassifierSpec,
    ContigModelSpec,
    GenesSpec,
    ModelSetInfo,
    write_info,
)
from virnuc_dask.sequences.genes import PYRODIGAL
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.tables.parquet import written_whole

log = logging.getLogger(__name__)

# Of a gene's features: how known its DNA's words are, and its peptide's.
EVIDENCE = (0, len(KNOWN_VALUES) + len(CLASSES))
CHUNK_NT = 500
RELIABLE = 0.01  # below: of the training's records so many were no more familiar
_FRAME_LENGTHS_NT = (150, 200, 300, 500)
_PIECES = 80_000  # whose frames are learnt from
_NOISE_SHARE = 0.02  # of the genes that the classifier learns from
_FIGURES = "figures.json"
_FEWEST_CALLED = 500  # prokaryote contigs that so small a share is told from

Called = tuple[tuple[float, float], ...]
"""Pairs of a length in nt and a probability: see `ContigModelSpec`."""


@dataclass(frozen=True, slots=True)
class Material:
    """Everything that a model set is learnt from, once words are."""

    fragments: Fragments
    genes: Path
    frames: Path
    gene_features: NDArray[np.float32]  # each of words that had not seen the gene
    frame_features: NDArray[np.float32]
    viral_models: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ModelParts:
    """What is learnt of features: all of a model set but its words."""

    classifier: Classifier
    readers: dict[str, Learnt]
    contigs: dict[str, Contigs]
    contig_model: ContigModel
    called: Called


def main() -> None:
    """Train as a recipe says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(read_recipe(parser.parse_args().recipe))


def train(recipe: Recipe, *, force: bool = False) -> Path:
    """Make a recipe's model set, and return its folder; its card says how good it is.

    Raises
    ------
    OutputExistsError
        If the folder is there and shall not be replaced, or holds what is no model set's.
    """
    work, out = Path(recipe.work), Path(recipe.out)
    if out.exists():
        if not force:
            raise OutputExistsError(f"{out}: exists; --force replaces the model set in it.")
        list(own_files(out))
    prepared = prepare(recipe, work)
    threads = recipe.threads or os.cpu_count() or 1
    source = _source(recipe, prepared, work)
    _draw_frames(source, prepared, recipe)
    learn_words(source, recipe.splits.folds, threads)
    material = _material(source, prepared, recipe)
    part = part_of(material.fragments.fold)
    measured = source.kept / f"measured-{_digest(asdict(recipe.fit))}"
    if not (measured / _FIGURES).exists():
        parts = _learn(material, part >= 0, recipe)
        found = _measure(material, parts, part == TEST)
        found |= _measure_regions(material, parts, recipe)
        _write(recipe, source, parts, found, TEST, measured)
        with written_whole(measured / _FIGURES) as stream:
            stream.write(json.dumps(found, indent=2).encode())
    found = json.loads((measured / _FIGURES).read_text(encoding="utf-8"))
    parts = _learn(material, np.ones(len(part), np.bool_), recipe)
    new = source.kept / "new"
    _write(recipe, source, parts, found, None, new)
    put_in_place(new, out)
    return out


def _source(recipe: Recipe, prepared: Prepared, work: Path) -> Source:
    made_from = [prepared.fingerprint, asdict(recipe.fit.words), recipe.seed, _PIECES]
    folder = work / f"words-{_digest(made_from)}"
    folder.mkdir(parents=True, exist_ok=True)
    return Source(
        fragments=prepared.fragments,
        genes=prepared.genes,
        markers=prepared.markers,
        frames=folder / "frames.parquet",
        kept=folder,
        settings=recipe.fit.words,
        seed=recipe.seed,
    )


def _digest(made_from: object) -> str:
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]


def _draw_frames(source: Source, prepared: Prepared, recipe: Recipe) -> None:
    if source.frames.exists():
        return
    fragments = Fragments.read(source.fragments)
    kind = np.where(fragments.is_sure, fragments.kind, "")
    chance = chances(kind, fragments.group, recipe.fit.contigs.shares)
    frames = short_pieces.draw_frames(prepared.sequences, chance, _PIECES, recipe.seed)
    with written_whole(source.frames) as stream:
        pq.write_table(frames, stream)


def _material(source: Source, prepared: Prepared, recipe: Recipe) -> Material:
    def features(name: str, path: Path) -> NDArray[np.float32]:
        return gather(source, name, recipe.splits.folds, pq.read_metadata(path).num_rows)

    return Material(
        fragments=Fragments.read(prepared.fragments),
        genes=prepared.genes,
        frames=source.frames,
        gene_features=features("genes", prepared.genes),
        frame_features=features("frames", source.frames),
        viral_models=viral_models(recipe.fragments.caller),
    )


def viral_models(caller: str) -> NDArray[np.int64]:
    """Numbers of the caller's gene models that were made for viruses."""
    if caller != PYRODIGAL:
        return np.zeros(0, np.int64)
    from pyrodigal_gv.meta import METAGENOMIC_BINS

    parts = [model.description.split("|") for model in METAGENOMIC_BINS]
    return np.array([int(number) for number, _, kind, *_ in parts if kind == "V"], np.int64)


def _learn(material: Material, is_used: Flags, recipe: Recipe) -> ModelParts:
    """Learn all but words from the fragments that are used, if they are sure."""
    is_taught = is_used & material.fragments.is_sure
    columns = [n for n in pq.read_schema(material.genes).names if n not in ("dna", "peptide")]
    genes = pq.read_table(material.genes, columns=columns)
    classifier = _learn_classifier(material, genes, is_used, recipe)
    contigs = {
        GENES: _contigs_of_genes(material, classifier, genes),
        FRAMES: _contigs_of_frames(material, classifier),
    }
    of_genes = recipe.fit.calibration
    calibration = {GENES: of_genes, FRAMES: replace(of_genes, lengths_nt=_FRAME_LENGTHS_NT)}
    part = part_of(material.fragments.fold)
    learnt = {
        reading: learn_reader(
            of,
            material.fragments,
            part,
            is_taught,
            recipe.fit.contigs,
            calibration[reading],
            recipe.seed,
        )
        for reading, of in contigs.items()
    }
    drawn = _drawn(material, is_used, recipe)
    evidence = _evidence(classifier, material.gene_features)
    regions = fit_regions(drawn, evidence, recipe.fit.regions.most_false)
    readers = {reading: one.reader for reading, one in learnt.items()}
    model = ContigModel(readers, material.viral_models, regions)
    called = _called(contigs[GENES], learnt[GENES], material.fragments, recipe)
    return ModelParts(classifier, learnt, contigs, model, called)


def _gene_chances(
    material: Material, genes: Any, is_used: Flags, recipe: Recipe
) -> NDArray[np.float64]:
    """How often to draw each gene of the fragments."""
    of = genes["fragment"].to_numpy()
    fragments = material.fragments
    is_sure = fragments.is_virus[of] | ~genes["doubtful"].to_numpy()
    kind = np.where(is_used[of] & is_sure, fragments.kind[of], "")
    shares = recipe.fit.words.shares | {NOISE: _NOISE_SHARE}
    return chances(kind, fragments.group[of], shares)


def _learn_classifier(material: Material, genes: Any, is_used: Flags, recipe: Recipe) -> Classifier:
    return gene_classifier.learn(
        material.gene_features,
        material.fragments.is_virus[genes["fragment"].to_numpy()],
        _gene_chances(material, genes, is_used, recipe),
        recipe.fit.classifier,
        recipe.seed,
    )


def _evidence(classifier: Classifier, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """As `stages.predict` makes it."""
    logit = gene_classifier.viral_logits(classifier, features)
    evidence: NDArray[np.float32] = np.column_stack([logit, features[:, list(EVIDENCE)]])
    return evidence


def _contigs_of_genes(material: Material, classifier: Classifier, genes: Any) -> Contigs:
    evidence = _evidence(classifier, material.gene_features)
    columns = gene_columns(genes, material.viral_models, evidence)
    everyone = np.arange(len(material.fragments.kind))
    length = material.fragments.length_nt
    return Contigs.of(columns, genes["fragment"].to_numpy(), everyone, length)


def _contigs_of_frames(material: Material, classifier: Classifier) -> Contigs:
    frames = pq.read_table(
        material.frames, columns=["piece", "fragment", "length_nt", "is_forward"]
    )
    columns = short_pieces.frame_columns(frames, _evidence(classifier, material.frame_features))
    piece = frames["piece"].to_numpy()
    fragment, length = np.zeros(piece.max() + 1, np.int64), np.ones(piece.max() + 1)
    fragment[piece] = frames["fragment"].to_numpy()
    length[piece] = frames["length_nt"].to_numpy()
    return Contigs.of(columns, piece, fragment, length)


def _called(contigs: Contigs, learnt: Learnt, fragments: Fragments, recipe: Recipe) -> Called:
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


def _measure(material: Material, parts: ModelParts, is_test: Flags) -> dict[str, Any]:
    """Figures of new groups, of new species of known ones, and of prophages beside their hosts.

    The first two are of the tests. Prophages are too few there: those of the other parts are
    judged by words and contig models that had not seen their part.
    """
    fragments, found = material.fragments, {}
    rule = CallRule(called=parts.called, reliable=RELIABLE)
    for reading, contigs in parts.contigs.items():
        judged = _judged(parts.readers[reading], contigs, fragments)
        tested, fold = is_test[contigs.fragment], fragments.fold[contigs.fragment]
        group = fragments.group[contigs.fragment]
        is_host = judged.kind == "prokaryote"
        is_host &= np.isin(group, np.unique(group[judged.kind == PROPHAGE]))
        for name, rows in (
            ("new groups", tested & (fold == TEST) & (judged.kind != "")),
            ("new species", tested & (fold == TEST - 1) & (judged.kind != "")),
            ("prophages", is_host | (judged.kind == PROPHAGE)),
        ):
            if rows.any():
                found[f"{reading}, {name}"] = figures(judged.take(rows), rule)
    return found


def _measure_regions(material: Material, parts: ModelParts, recipe: Recipe) -> dict[str, Any]:
    """Figures of regions, in the tests' new groups and new species."""
    fragments, model = material.fragments, parts.contig_model.regions
    evidence, found = _evidence(parts.classifier, material.gene_features), {}
    for name, fold in (("new groups", TEST), ("new species", TEST - 1)):
        drawn = _drawn(material, fragments.fold == fold, recipe)
        if model and len(drawn.insertions):
            found[f"regions, {name}"] = region_figures.figures(model, evidence, drawn)
    return found


def _drawn(material: Material, is_used: Flags, recipe: Recipe) -> insertions.Drawn:
    genes = pq.read_table(material.genes, columns=list(insertions.COLUMNS))
    many = recipe.fit.regions.insertions
    return insertions.draw(material.fragments, genes, is_used, many, recipe.seed)


def _judged(learnt: Learnt, contigs: Contigs, fragments: Fragments) -> Judged:
    """All contigs: the tests' by the whole reader, others by one that had not seen their part."""
    reader, length = learnt.reader, contigs.length_nt
    whole = reader.calibration.of(reader.score(contigs.features), length)
    return Judged(
        kind=fragments.judged_kind[contigs.fragment],
        length_nt=length,
        evidence=np.where(np.isnan(learnt.evidence), whole, learnt.evidence),
        reliability=reader.familiarity.reliability(contigs.features, length),
    )


def _write(
    recipe: Recipe,
    source: Source,
    parts: ModelParts,
    found: dict[str, Any],
    held_out: int | None,
    folder: Path,
) -> None:
    """Write a model set's folder, instead of one that was left half written."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tables = load_file(source.words(held_out))
    save_file({"known": tables.pop("known_dna")}, folder / "nucleotide.safetensors")
    save_file(tables, folder / "peptide.safetensors")
    save_tensors(parts.classifier.state_dict(), folder / "classifier.safetensors")
    parts.contig_model.save(folder / "contig_model.safetensors")
    known, classes = len(KNOWN_VALUES), len(CLASSES)
    info = ModelSetInfo(
        name=recipe.name,
        version=recipe.version,
        chunk_lengths=(CHUNK_NT,),
        nucleotide=EncoderSpec("dna_words", known, "nucleotide.safetensors"),
        peptide=EncoderSpec("peptide_words", classes + known + 1, "peptide.safetensors"),
        classifier=ClassifierSpec("classifier.safetensors", recipe.fit.classifier.hidden),
        licence=recipe.licence,
        training_data=_training_data(recipe),
        quality=_quality(found),
        reading=GENES,
        genes=GenesSpec(recipe.fragments.caller, recipe.fragments.models),
        contig_model=ContigModelSpec("contig_model.safetensors", EVIDENCE, parts.called, RELIABLE),
    )
    write_info(folder, info)
    (folder / "README.md").write_text(card(recipe, found, parts.called), encoding="utf-8")


def _training_data(recipe: Recipe) -> str:
    names = [Path(path).name for path in recipe.data.sources]
    sums = [*recipe.data.sha256, *[""] * (len(names) - len(recipe.data.sha256))]
    told = (f"{name} (SHA-256 {s})" if s else name for name, s in zip(names, sums, strict=False))
    return f"{', '.join(told)}; seed {recipe.seed}"


def _quality(found: dict[str, Any]) -> dict[str, Any]:
    """What a manifest says of the measurements: new groups of phages, by length."""
    by_length = found.get(f"{GENES}, new groups", {}).get("by_length", {})
    pair = "phage against prokaryote"
    return {length: of[pair] for length, of in by_length.items() if pair in of}


if __name__ == "__main__":
    main()
