"""A training's work folder is its own, or the training does not begin."""

import pytest

from virnuc_dask.errors import OutputExistsError
from virnuc_dask.lab.prepare import prepare
from virnuc_dask.lab.recipe import DataSettings, Recipe


def test_a_folder_with_files_of_others_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "genes.parquet").write_text("mine")
    recipe = Recipe(data=DataSettings(table="t.tsv", phage=("p.fa",), prokaryote=("b.fa",)))
    with pytest.raises(OutputExistsError, match="no training made"):
        prepare(recipe, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["genes.parquet"]
    assert (tmp_path / "genes.parquet").read_text() == "mine"
