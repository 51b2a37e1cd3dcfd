"""A run's table of records, with labels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from virnuc_dask.errors import BadTableError, LostRowsError
from virnuc_dask.lab.labelled import LabelledFiles
from virnuc_dask.lab.quality.figures import Flags, Floats
from virnuc_dask.stages.calls import UNSURE, VIRUS, VIRUS_REGION

_COLUMNS = {
    "record_id": pa.string(),
    "length_nt": pa.int64(),
    "score": pa.float64(),
    "probability": pa.float64(),
    "call": pa.string(),
}


@dataclass(frozen=True, slots=True)
class Scored:
    """Sequences that were scored and called, one row each."""

    score: Floats  # ranks them; NaN where there is none
    called: Flags  # virus
    is_virus: Flags
    length_nt: NDArray[np.int64]
    unsure: Flags  # where the run does not say
    region: Flags  # where a part is called virus, not the whole
    probability: Floats | None = None  # NaN where there is none; None without a calibration

    def where(self, rows: Flags) -> Scored:
        """Some of the rows."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{n: c[rows] for n, c in columns.items() if c is not None})

    @property
    def is_scored(self) -> Flags:
        """Whether there is a score."""
        return ~np.isnan(self.score)

    @property
    def scored(self) -> Scored:
        """The rows with a score."""
        return self.where(self.is_scored)

    def with_probability(self) -> tuple[Floats, Flags]:
        """Probabilities and labels of the rows that have one."""
        if self.probability is None:
            return np.empty(0), np.empty(0, np.bool_)
        has_one = ~np.isnan(self.probability)
        return self.probability[has_one], self.is_virus[has_one]


class ScoredRun(NamedTuple):
    """The records of one run over labelled files."""

    labelled: LabelledFiles
    record_ids: pa.Array
    contigs: Scored


def read_scored(folder: Path, labelled: LabelledFiles) -> ScoredRun:
    """Read ``contigs.tsv`` of a finished run over ``labelled.files``.

    Records are told apart by their place in the input, since ids may repeat.

    `BadTableError` if the table is missing or damaged. `LostRowsError` if it has another number of
    records than the files.
    """
    path, is_virus = folder / "contigs.tsv", labelled.is_virus
    # Ids may be such text as "nan", which would read as missing.
    options = pa.csv.ConvertOptions(
        column_types=_COLUMNS,
        include_columns=list(_COLUMNS),
        null_values=[""],
        strings_can_be_null=False,
    )
    try:
        table = pa.csv.read_csv(
            path, parse_options=pa.csv.ParseOptions(delimiter="\t"), convert_options=options
        )
    except (OSError, pa.ArrowException) as error:
        raise BadTableError(f"{path}: cannot be read ({error}); use --resume.") from error
    if len(table) != len(is_virus):
        raise LostRowsError(
            f"{path}: {len(table)} records, the files have {len(is_virus)}; start anew with "
            "--force."
        )
    score, likely = table["score"].to_numpy(), table["probability"].to_numpy()
    contigs = Scored(
        score=np.where(np.isnan(likely), score, likely),  # as the run orders them
        called=is_called(table["call"], VIRUS),
        is_virus=is_virus,
        length_nt=table["length_nt"].to_numpy(),
        unsure=is_called(table["call"], UNSURE),
        region=is_called(table["call"], VIRUS_REGION),
        probability=None if np.isnan(likely).all() else likely,
    )
    return ScoredRun(labelled, table["record_id"].combine_chunks(), contigs)


def is_called(call: pa.ChunkedArray, kind: str) -> Flags:
    """Where a call is of that kind; a missing one is not."""
    flags: Flags = pc.fill_null(pc.equal(call, kind), False).to_numpy()
    return flags
