import numpy as np

from virnuc_dask import load_settings, run
from virnuc_dask.lab.fitting.frame_features import LabelledRun
from virnuc_dask.lab.fitting.groups import TEST
from virnuc_dask.lab.fitting.held_out import MOST_CHUNKS, piece_starts, score_part
from virnuc_dask.modelsets.calibration import margins
from virnuc_dask.modelsets.modelset import load_modelset
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.plan import read_plan


def test_long_records_are_calibrated_with_in_pieces():
    record = np.repeat([3, 5, 6], [2, 2 * MOST_CHUNKS + 1, 1])
    starts = [0, 2, 2 + MOST_CHUNKS, 2 + 2 * MOST_CHUNKS, 3 + 2 * MOST_CHUNKS]
    assert piece_starts(record).tolist() == starts


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
    scored = table[table["call"].notna()]
    both = (scored[name].to_numpy() for name in ("score_virus", "score_others"))
    pieces, labels = found.pieces()
    np.testing.assert_allclose(np.concatenate(pieces), margins(*both), atol=1e-5)
    assert len(pieces) == len(labels) == scored["record_index"].nunique()
    assert len(found.frames.score) == table["frames"].sum()
    contigs = found.contigs(CallRule())
    means = 0.5 + (scored["score_virus"] - scored["score_others"]) / 2
    expected = means.groupby(scored["record_index"]).mean().reindex(contigs.record)
    assert contigs.record.tolist() == np.flatnonzero(part == TEST).tolist()
    np.testing.assert_allclose(contigs.score, expected, rtol=1e-6)
    assert contigs.called.tolist() == (expected >= 0.5).tolist()
    assert contigs.probability is None


def test_a_part_without_records_has_no_scores(parity_dir, parity_modelset, tmp_path):
    flags = {"model": str(parity_modelset), "cluster.kind": "none", "cluster.threads": 1}
    run([parity_dir / "input.fa"], tmp_path / "out", settings=load_settings(flags=flags))
    plan = read_plan(RunFolder(tmp_path / "out"))
    none = np.zeros(plan.counts.records, np.int8)
    labelled = LabelledRun(plan, none == 0, none.astype(np.int64), none, None)
    found = score_part(labelled, TEST, load_modelset(str(parity_modelset), device="cpu"))
    assert (
        len(found.frames.score)
        == len(found.chunks.score)
        == len(found.contigs(CallRule()).score)
        == 0
    )
    assert found.pieces() == ([], [])
