from virnuc_dask.lab.labelled import read_labelled


def test_dna_in_both_classes_is_told_by_the_dna_not_by_its_spelling(tmp_path):
    others = ["AACRN", "aacrn", "NYGTT", "NYGUU", "AACYN", ""]
    for name, records in (("v.fa", ["AACRN", ""]), ("o.fa", others)):
        (tmp_path / name).write_text("".join(f">a\n{dna}\n" for dna in records))
    labelled = read_labelled([str(tmp_path / "v.fa")], [str(tmp_path / "o.fa")])
    assert labelled.in_both.tolist() == [2, 3, 4, 5]
