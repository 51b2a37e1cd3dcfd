"""Rows that come partition by partition → rows of whole records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


class WholeRecords:
    """Passes rows on, in order, once their records have ended.

    What is said of a record then does not depend on where partitions end. Never more than one
    record's rows are kept, and those of a partition.
    """

    def __init__(self, pass_on: Callable[[pa.Table], None]) -> None:
        self._pass_on, self._held = pass_on, list[pa.Table]()

    @property
    def going_on(self) -> int | None:
        """Index of the record that may have more rows."""
        return self._held[0]["record_index"][0].as_py() if self._held else None

    def add(self, rows: pa.Table) -> None:
        """Take in rows with a column ``record_index``, by which they are sorted."""
        if not len(rows):
            return
        record = rows["record_index"].to_numpy()
        ended = int(np.searchsorted(record, record[-1]))  # rows before those of the last record
        if ended or self.going_on not in (None, record[0]):
            self._held.append(rows.slice(0, ended))
            self.end()
        self._held.append(rows.slice(ended))

    def end(self) -> None:
        """No more rows come."""
        if self._held:
            rows, self._held = pa.concat_tables(self._held), []
            self._pass_on(rows)


def begins(*columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows are not as the one before in one of the columns; the first is not, either."""
    is_first = np.ones(len(columns[0]), np.bool_)
    is_first[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return is_first
