"""Tables and figures of model cards."""

import pytest

from virnuc_dask.lab.training.markdown import number, percent, table


def test_a_table_has_as_many_cells_in_every_line():
    lines = table(["", "a", "b"], (row for row in [["x", "1", "2"], ["y", "3", "4"]]))
    assert lines == ["|  | a | b |", "| --- | --- | --- |", "| x | 1 | 2 |", "| y | 3 | 4 |"]


@pytest.mark.parametrize(
    ("value", "decimals", "shown"),
    [(0.12345, 3, "0.123"), (0.12345, 4, "0.1235"), (12345, 4, "12,345"), (None, 3, "-")],
)
def test_whole_numbers_are_counts_and_others_figures(value, decimals, shown):
    assert number(value, decimals) == shown


@pytest.mark.parametrize(("share", "shown"), [(0.1234, "12.3 %"), (0.0, "0.0 %"), (None, "-")])
def test_a_share_is_shown_in_percent(share, shown):
    assert percent(share) == shown
