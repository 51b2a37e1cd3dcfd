import json
from pathlib import Path

import numpy as np
import pytest

from virnuc_dask.encoders.encoder import Placement, load_encoder
from virnuc_dask.modelsets.calibration import Calibration
from virnuc_dask.modelsets.registry import find, read_info, verify
from virnuc_dask.sequences.chunks import chunk_spans
from virnuc_dask.sequences.records import read_records
from virnuc_dask.training.evaluate import Scorer

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "tests/data/demo.fasta.gz"
PHAGE = "Escherichia_phage_lambda"


@pytest.fixture(scope="module")
def folder():
    return find("mini")


@pytest.fixture(scope="module")
def info(folder):
    return read_info(folder)


@pytest.fixture(scope="module")
def threshold(info):
    return Calibration.of(info.calibration).contig_threshold


@pytest.fixture(scope="module")
def report():
    path = ROOT / "benchmarks/results/0.1.0/mini-quality.json"
    return json.loads(path.read_text(encoding="utf-8"))


def test_is_whole_and_small(folder, info):
    verify(folder, info)
    assert info.name == "mini"
    assert info.chunk_lengths == (500, 300)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 12_000_000


def test_embeddings_have_their_size_and_are_finite(folder, info):
    for spec, texts in (
        (info.nucleotide, ["ATGGCCAAATTTGGGCCC", "", "NNNN"]),
        (info.peptide, ["MAKFGP", "", "M"]),
    ):
        embedded = load_encoder(spec, folder, Placement()).embed(texts)
        assert embedded.shape == (3, spec.dim)
        assert np.isfinite(embedded).all()
        assert embedded[0].any()
        assert not embedded[1:].any()


def contig_score(scorer, dna, length):
    scores = scorer.score([dna[start:end] for start, end in chunk_spans(len(dna), length)])
    return float(np.nanmean(scores))


@pytest.fixture(scope="module")
def demo_scores(folder, info):
    scorer = Scorer.load(folder, info)
    records = list(read_records([str(DEMO)]))
    return {
        length: {record.id: contig_score(scorer, record.dna, length) for record in records}
        for length in info.chunk_lengths
    }


@pytest.mark.parametrize("length", [500, 300])
def test_calls_most_bacterial_contigs_of_the_demo_others(demo_scores, threshold, length):
    scores = [score for name, score in demo_scores[length].items() if name != PHAGE]
    assert np.mean([score < threshold for score in scores]) >= 0.9


@pytest.mark.xfail(strict=True, reason="mini 0.1.0 misses phage lambda; its model card says so")
@pytest.mark.parametrize("length", [500, 300])
def test_calls_phage_lambda_virus(demo_scores, threshold, length):
    assert demo_scores[length][PHAGE] >= threshold


@pytest.mark.parametrize("length", [500, 300])
def test_the_demo_scores_as_reported(demo_scores, threshold, report, length):
    reported = report["by_chunk_length"][str(length)]["genomes"]["demo.fasta.gz"]
    scores = demo_scores[length].values()
    assert sum(score >= threshold for score in scores) == reported["called_virus"]
    assert max(scores) == pytest.approx(reported["highest_score"], abs=1e-3)


def test_the_report_is_about_these_weights(info, threshold, report):
    assert report["modelset"]["checksum"] == info.checksum
    assert report["contig_threshold"] == threshold
    for length, figures in info.quality.items():
        measured = report["by_chunk_length"][length]["chunks"]
        assert figures.items() <= measured.items()


def test_the_quality_asked_for(info):
    assert info.quality["500"]["auroc"] >= 0.88
    assert info.quality["300"]["auroc"] >= 0.85


def test_the_card_states_the_measured_figures(folder, report):
    card = (folder / "README.md").read_text(encoding="utf-8")
    for figures in report["by_chunk_length"].values():
        for group in ("chunks", "chunks_against_other", "chunks_against_transcript", "genes"):
            assert f"{figures[group]['auroc']:.3f}" in card
        assert f"{figures['chunks']['average_precision']:.3f}" in card
        assert f"{figures['contigs']['auroc']:.3f}" in card
        assert f"{figures['contigs']['missed_of_virus']:.1%}".replace("%", " %") in card
        assert f"{figures['contigs']['called_of_others']:.1%}".replace("%", " %") in card
    assert f"{report['contig_threshold']:.4f}" in card
