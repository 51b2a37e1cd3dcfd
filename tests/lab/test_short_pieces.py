import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from virnuc_dask.lab.short_pieces import LENGTHS_NT, draw_frames, frame_columns
from virnuc_dask.modelsets.contig_features import contig_features
from virnuc_dask.modelsets.gene_sums import GeneSums


def test_frames_are_of_pieces_of_fragments_that_may_be_drawn_and_add_up_like_genes(tmp_path):
    dna = pa.array(["GCTGAA" * 100, "GCATTC" * 200, "GCTGAA" * 5], pa.large_string())
    pq.write_table(pa.table({"fragment": range(3), "dna": dna}), tmp_path / "sequences.parquet")
    frames = draw_frames(tmp_path / "sequences.parquet", np.array([0.5, 0.0, 0.5]), 30)
    assert set(frames["fragment"].to_pylist()) == {0, 2}
    assert sorted(set(frames["piece"].to_pylist())) == list(range(30))
    for row in frames.to_pylist():
        shortest = 30 if row["fragment"] == 2 else LENGTHS_NT[0]
        assert shortest <= row["length_nt"] <= LENGTHS_NT[1]
        assert row["length_nt"] - 5 <= len(row["dna"]) + 3 <= row["length_nt"] + 3
        assert len(row["peptide"]) == len(row["dna"]) // 3
    columns = frame_columns(frames, np.zeros((len(frames), 3), np.float32))
    sums = GeneSums.of(columns, frames["piece"].to_numpy())
    assert np.isfinite(contig_features(sums, np.full(len(sums), 300.0))).all()
