import io

import pytest
from rich.console import Console

from virnuc_dask.cluster.progress import ProgressBar
from virnuc_dask.modelsets.manifest import Units


@pytest.mark.parametrize("units", [Units(), Units("pieces", "genes")])
def test_the_progress_bar_counts_what_the_model_set_reads(units):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with ProgressBar(console, 9, 4, units) as bar:
        bar.advance(3, 50)
        bar._progress.refresh()
    drawn = console.file.getvalue()
    assert "7/9" in drawn
    assert f" {units.parts} · " in drawn
    assert f" {units.scored}/s · " in drawn
