import numpy as np
import pandas as pd
import pyarrow as pa

from virnuc_dask.outputs.genomad import write_virus_summary
from virnuc_dask.tables.folder import RunFolder

CONTIGS_HEADER = "record_id\tlength_nt\tchunks\tchunks_scored\tscore\tprobability\tq_value\tcall\n"
_BASIS = "\treading\tgenes\tviral_genes\tcoding_density\ttopology\treliability\n"
COLUMNS = (
    "seq_name length topology coordinates n_genes genetic_code virus_score fdr n_hallmarks "
    "marker_enrichment taxonomy"
)


def summary(folder: RunFolder, is_virus: list[bool], *sure: dict[str, object]) -> pd.DataFrame:
    regions = [pa.Table.from_pylist([region]) for region in sure]
    write_virus_summary(folder, np.array(is_virus), regions)
    return pd.read_csv(
        folder.output("virus_summary.tsv"), sep="\t", dtype=str, keep_default_na=False
    )


def test_viruses_are_in_the_columns_of_genomad(tmp_path):
    folder = RunFolder(tmp_path)
    folder.output("contigs.tsv").write_text(
        CONTIGS_HEADER.rstrip() + _BASIS + '"a ""b"""\t900\t1\t1\t0.9\t0.91239\t0.01\tvirus\tgenes'
        "\t7\t5\t0.9\tdirect_repeat\t0.8\nc\t800\t1\t1\t0.1\t0.1\t0.9\tothers\tgenes\t7\t5\t0.9\t\t1\n"
        "d\t700\t1\t1\t0.8\t0.8\t0.05\tvirus\tframes\t0\t0\t0.0\t\t0.8\n"
    )
    found = summary(folder, [True, False, True])
    assert list(found) == COLUMNS.split()
    assert found["seq_name"].tolist() == ['a "b"', "d"]
    assert found["topology"].tolist() == ["DTR", "No terminal repeats"]
    for column, values in {
        "virus_score": ["0.9124", "0.8000"],
        "fdr": ["0.0100", "0.0500"],
    }.items():
        assert found[column].tolist() == values
    assert found["n_genes"].tolist() == ["7", "0"]
    for column in ("coordinates", "genetic_code", "n_hallmarks", "taxonomy"):
        assert found[column].tolist() == ["NA", "NA"]


def test_what_a_set_that_reads_frames_does_not_know_is_na(tmp_path):
    folder = RunFolder(tmp_path)
    folder.output("contigs.tsv").write_text(CONTIGS_HEADER + "a\t900\t1\t1\t0.75\t\t\tvirus\n")
    (row,) = summary(folder, [True]).to_dict("records")
    assert (row["virus_score"], row["fdr"], row["topology"], row["n_genes"]) == (
        *("0.7500", "NA"),
        *("NA", "NA"),
    )


def test_regions_are_proviruses_in_their_record_s_place(tmp_path):
    folder = RunFolder(tmp_path)
    folder.output("contigs.tsv").write_text(
        CONTIGS_HEADER + "a\t900\t1\t1\t\t\t\tunscored\na\t800\t1\t1\t0.1\t\t\tvirus_region\n"
        "c\t700\t1\t1\t0.8\t\t\tvirus\n"
    )
    place = {"record_index": 1, "record_id": "a", "start": 600, "end": 800}
    found = summary(
        folder, [True, False, True], {**place, "genes": 7, "score": 0.97, "q_value": 0.001}
    )
    assert found["seq_name"].tolist() == ["a", "a|provirus_601_800", "c"]
    assert found["virus_score"].tolist() == ["NA", "0.9700", "0.8000"]
    assert found.iloc[1, 1:8].tolist() == [
        *("200", "Provirus", "601-800", "7", "NA"),
        *("0.9700", "0.0010"),
    ]
