import numpy as np
import pytest

from virnuc_dask import load_settings, run
from virnuc_dask.lab.quality.scored import Level
from virnuc_dask.lab.training.frame_features import LabelledRun
from virnuc_dask.lab.training.groups import TEST
from virnuc_dask.lab.training.held_out import MOST_CHUNKS, HeldOut, score_part
from virnuc_dask.modelsets.calibration import margins
from virnuc_dask.modelsets.modelset import load_modelset
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_plan


def held_out(score, record, is_virus) -> HeldOut:
    """Chunks with these scores; margins ten times as far from 0 as scores from one half."""
    score, record = np.array(score, np.float64), np.array(record, np.int64)
    level = Level(
        score=score,
        called=score >= 0.5,
        is_virus=np.array(is_virus)[record],
        record=record,
        length_nt=np.full(len(score), 500),
    )
    return HeldOut(level, level, 10 * score - 5, None, 1_000 * (np.arange(len(is_virus)) + 1))


def test_a_record_is_the_mean_of_its_scored_chunks():
    found = held_out([0.25, np.nan, 0.75, 0.75, np.nan], [0, 0, 2, 2, 3], [0, 0, 1, 1]).contigs(
        None
    )
    np.testing.assert_array_equal(found.score, [0.25, 0.75, np.nan])
    assert found.called.tolist() == [False, True, False]
    assert found.is_virus.tolist() == [False, True, True]
    assert found.length_nt.tolist() == [1_000, 3_000, 4_000]


def test_long_records_are_calibrated_with_in_pieces():
    chunks = 2 * MOST_CHUNKS + 1
    score = [0.6, np.nan, 0.7, *np.linspace(0, 1, chunks), np.nan]
    pieces, labels = held_out(score, [0, 0, 0, *[1] * chunks, 2], [True, False, True]).pieces()
    assert [len(piece) for piece in pieces] == [2, MOST_CHUNKS, MOST_CHUNKS, 1]
    assert labels == [True, False, False, False]
    np.testing.assert_allclose(pieces[0], [1, 2])


def test_scores_are_those_of_a_run(parity_dir, parity_modelset, tmp_path):
    flags = {"model": str(parity_modelset), "partition_chunks": 24, "cluster.kind": "none"}
    settings = load_settings(flags=flags | {"cluster.threads": 1})
    done = run([parity_dir / "input.fa"], tmp_path / "out", settings=settings)
    plan = read_plan(RunFolder(tmp_path / "out"))
    records = plan.counts.records
    part = (np.arange(records) % 3).astype(np.int8)
    labelled = LabelledRun(plan, part == 0, np.zeros(records, np.int64), part, None)
    found = score_part(labelled, TEST, load_modelset(str(parity_modelset), device="cpu"))
    table = done.dataset("chunks").to_table().to_pandas()
    table = table[part[table["record_index"]] == TEST]
    expected = (1 + table["score_virus"].astype(float) - table["score_others"].astype(float)) / 2
    # Other frames beside a frame change its last bit.
    np.testing.assert_allclose(found.chunks.score, expected, rtol=1e-6)
    assert found.chunks.record.tolist() == table["record_index"].tolist()
    assert found.chunks.called.tolist() == (table["call"] == "virus").tolist()
    scored = ~np.isnan(found.margins)
    assert scored.any()
    both = (table[name].to_numpy()[scored] for name in ("score_virus", "score_others"))
    np.testing.assert_allclose(found.margins[scored], margins(*both), atol=1e-5)
    assert len(found.frames.score) == table["frames"].sum()


def test_a_part_without_records_has_no_scores(parity_dir, parity_modelset, tmp_path):
    flags = {"model": str(parity_modelset), "cluster.kind": "none", "cluster.threads": 1}
    run([parity_dir / "input.fa"], tmp_path / "out", settings=load_settings(flags=flags))
    plan = read_plan(RunFolder(tmp_path / "out"))
    none = np.zeros(plan.counts.records, np.int8)
    labelled = LabelledRun(plan, none == 0, none.astype(np.int64), none, None)
    found = score_part(labelled, TEST, load_modelset(str(parity_modelset), device="cpu"))
    assert len(found.frames.score) == len(found.chunks.score) == len(found.contigs(None).score) == 0
    assert found.pieces() == ([], [])


@pytest.mark.parametrize("values", [[], [np.nan]])
def test_nothing_scored_is_nothing_to_calibrate_with(values):
    assert held_out(values, [0] * len(values), [True]).pieces() == ([], [])
