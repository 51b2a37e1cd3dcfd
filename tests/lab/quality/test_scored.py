"""A run's tables with labels."""

import numpy as np
import pytest

from virnuc_dask.config import ClusterSettings, Settings
from virnuc_dask.errors import LostRowsError
from virnuc_dask.lab.labelled.files import read_labelled
from virnuc_dask.lab.quality.scored import read_scored
from virnuc_dask.modelsets.calibration import Calibration, probability
from virnuc_dask.run import run

OPEN = "ATGGCTGAACGTCTGAAAGCTGCTGGTGCTGAACGT" * 20
CLOSED = "TAATTAATTAA" * 40  # stops in all six frames
FILES = {
    "virus.fa": f'>same\n{OPEN}\n>"quoted\n{OPEN[:330]}\n',
    "other.fa": f">same\n{OPEN[40:]}\n>nan\n{CLOSED}\n>empty\n\n",
}


@pytest.fixture(scope="module")
def made(frames_modelset, tmp_path_factory):
    """A run in partitions of two chunks, and its labelled files."""
    folder = tmp_path_factory.mktemp("scored")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    labelled = read_labelled([str(folder / "virus.fa")], [str(folder / "other.fa")])
    cluster = ClusterSettings(kind="none", threads=1)
    way = {"length": 300, "features": False, "partition_chunks": 2}
    settings = Settings(model=str(frames_modelset), **way, cluster=cluster)
    return run(labelled.files, folder / "out", settings=settings), labelled


def test_frames_find_their_chunk_across_partitions(made):
    done, labelled = made
    scored = read_scored(done.folder, labelled)
    chunks = done.dataset("chunks").to_table()
    counts = chunks["frames"].to_numpy()
    assert len(scored.frames.score) == counts.sum() > 10
    assert scored.frames.record.tolist() == np.repeat(scored.chunks.record, counts).tolist()
    of_first = scored.frames.score[: counts[0]]
    assert of_first.max() == pytest.approx(chunks["score_virus"][0].as_py())


def test_scores_are_those_of_the_run(made):
    done, labelled = made
    scored = read_scored(done.folder, labelled)
    assert np.isnan(scored.contigs.score).tolist() == [False, False, False, True, True]
    first = scored.chunks.score[scored.chunks.record == 0]
    lines = (done.folder / "contigs.tsv").read_text().splitlines()
    assert float(lines[1].split("\t")[4]) == pytest.approx(first.mean(), abs=1e-5)
    assert scored.contigs.score[0] == float(lines[1].split("\t")[5])  # its probability
    calls = done.dataset("chunks").to_table()["call"].to_pylist()
    assert scored.chunks.called.tolist() == [call == "virus" for call in calls]


def test_a_calibration_gives_chunks_their_probability(made):
    done, labelled = made
    assert read_scored(done.folder, labelled).chunks.probability is None
    knots = ((-8.0, -4.0), (8.0, 4.0))
    calibration = Calibration(knots, 0.1, 0.0, knots, "by hand")
    likely = read_scored(done.folder, labelled, calibration).chunks.probability
    row = done.dataset("chunks").to_table().to_pylist()[0]
    scores = (np.array([row[name]]) for name in ("score_virus", "score_others"))
    assert likely[0] == pytest.approx(probability(calibration.chunk_evidence(*scores))[0])


def test_probabilities_of_contigs_rank_them_where_there_are_any(made):
    done, labelled = made
    contigs = done.folder / "contigs.tsv"
    whole = contigs.read_text()
    head, *rows = whole.splitlines()
    cells = [row.split("\t") for row in rows]
    for row, value in zip(cells, ("0.9", "0.8", "0.1", "", ""), strict=True):
        row[5] = value
    contigs.write_text("\n".join([head, *map("\t".join, cells)]) + "\n")
    scored = read_scored(done.folder, labelled)
    contigs.write_text(whole)
    assert scored.contigs.score[:3].tolist() == [0.9, 0.8, 0.1]
    assert np.isnan(scored.contigs.probability).tolist() == [False] * 3 + [True] * 2


def test_a_run_over_other_files_is_refused(made):
    done, labelled = made
    fewer = type(labelled)(labelled.groups[:1], ())
    with pytest.raises(LostRowsError, match="5 records, the files 2"):
        read_scored(done.folder, fewer)
