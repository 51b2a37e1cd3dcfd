"""Agreement with the published tool's recorded results, through the command line."""

from pathlib import Path

import dask
import dnaio
import numpy as np
import pyarrow.parquet as pq
import pytest

from virnuc_dask.sequences.frames import find_frames


@pytest.fixture(scope="module")
def runs() -> dict[int, Path]:
    """Folders of the runs that were made already, whatever the order of the tests."""
    return {}


@pytest.fixture(params=[500, 300])
def compared(
    request, runs, parity_dir, parity_modelset, tmp_path_factory, command, monkeypatch
) -> tuple[Path, Path]:
    """A run's folder, and the folder of what it should hold."""
    length = request.param
    expected = parity_dir / f"expected_{length}"
    if length in runs:
        return runs[length], expected
    out = runs[length] = tmp_path_factory.mktemp("parity") / "out"
    # Several partitions, so that joining them is part of what is compared.
    monkeypatch.setitem(dask.config.config, "virnuc", {"partition_chunks": 20})
    code, _, err = command(
        *("run", parity_dir / "input.fa", "-o", out, "--model", parity_modelset),
        *("--length", length, "--precision", "fp32", "--cluster", "none"),
    )
    assert code == 0, err
    assert len(_parts(out, "partitions")) > 1
    return out, expected


def test_chunks_dna_and_peptides_are_equal_letter_for_letter(compared):
    out, expected = compared
    rows = _rows(out, "partitions")
    assert [(row["chunk_id"], row["sequence"]) for row in rows] == _fasta(
        expected / "input_chunked.fa"
    )
    found = find_frames([row["sequence"] for row in rows])
    frames = [
        (row["chunk_id"] + f.suffix, f) for row, fs in zip(rows, found, strict=True) for f in fs
    ]
    dna = [(name, frame.dna) for name, frame in frames]
    peptides = [(name, frame.peptide) for name, frame in frames]
    assert dna == _fasta(expected / "input_identified_nucleotide.fa")
    assert peptides == _fasta(expected / "input_identified_protein.faa")


def test_features_agree(compared):
    out, expected = compared
    recorded = np.load(expected / "features.npz")
    rows = _rows(out, "features")
    features = np.array([row["nucleotide"] + row["peptide"] for row in rows])
    assert [row["frame_id"] for row in rows] == recorded["ids"].tolist()
    np.testing.assert_allclose(features, recorded["features"], rtol=0, atol=1e-4)


def test_labels_and_scores_agree(compared):
    ours, published = (_lines(folder / "prediction_results.txt") for folder in compared)
    assert [row[:2] for row in ours] == [row[:2] for row in published]
    scores, recorded = (
        np.array([row[2:] for row in rows[1:]], float) for rows in (ours, published)
    )
    np.testing.assert_allclose(scores, recorded, rtol=0, atol=1e-5)


def test_the_chunk_file_is_equal_byte_for_byte(compared):
    ours, published = (folder / "prediction_results_highestscore.csv" for folder in compared)
    assert ours.read_bytes() == published.read_bytes()


def _parts(out: Path, name: str) -> list[Path]:
    return sorted((out / name).glob("part-*.parquet"))


def _rows(out: Path, name: str) -> list[dict]:
    return [row for path in _parts(out, name) for row in pq.read_table(path).to_pylist()]


def _fasta(path: Path) -> list[tuple[str, str]]:
    with dnaio.open(path) as records:
        return [(record.id, record.sequence) for record in records]


def _lines(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]
