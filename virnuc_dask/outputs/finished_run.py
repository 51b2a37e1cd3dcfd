"""A finished run, and its tables for pandas, polars, DuckDB and Dask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from virnuc_dask.errors import BadTableError, LostRowsError, UsageError
from virnuc_dask.stages.receipt import Failure
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import local
from virnuc_dask.tables.plan import read_plan

if TYPE_CHECKING:
    import pyarrow.dataset as ds

_COLUMNS = {"partitions": schemas.PARTITION, "predictions": schemas.PREDICTIONS}


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its summary, and what failed."""

    folder: Path
    summary: Mapping[str, Any]
    failures: tuple[Failure, ...] = ()

    def dataset(self, name: str) -> ds.Dataset:
        """A table as an Arrow dataset, which pandas, polars, DuckDB and Dask read.

        ``name`` is ``chunks``, ``records``, ``predictions``, ``features`` or ``partitions``;
        ``genes`` of a run with a model set that reads genes. `UsageError` if there is no table of
        this name, `BadTableError` if the run kept none.
        """
        # Imported here: it brings pandas along where that is installed.
        import pyarrow.dataset as ds

        files = self._tables(name)
        if not files and self.summary.get("frames"):
            raise BadTableError(
                f"{self.folder}: has no table {name!r}; `run --resume --features` makes it."
            )
        schema = None if files else _COLUMNS.get(name)  # of an empty input
        return ds.dataset([local(path) for path in files], schema=schema)

    def _tables(self, name: str) -> list[Path]:
        """The files of a table: those that were planned, and are there."""
        folder = RunFolder.of_run(self.folder)
        several = {
            "partitions": folder.partition,
            "features": folder.features,
            "predictions": folder.predictions,
        }
        alone = {"chunks": folder.output("chunks.parquet"), "records": folder.records}
        plan = read_plan(folder)
        if plan is not None and plan.decisions.reads_genes:
            alone["genes"] = folder.output("genes.parquet")
        if name in alone:
            return [alone[name]]
        if name not in several:
            known = ", ".join([*alone, *several])
            raise UsageError(f"no table {name!r}; there are {known}.")
        paths = [several[name](part.index) for part in plan.partitions] if plan else []
        return [path for path in paths if path.exists()]

    def require_complete(self) -> None:
        """Check that no chunk failed; `LostRowsError` if one did."""
        if self.failures:
            failed = sum(failure.chunks for failure in self.failures)
            part = "piece" if "genes" in self.summary else "chunk"
            raise LostRowsError(
                f"{failed} {part}(s) failed; "
                f"{RunFolder.of_run(self.folder).output('failed.tsv')} names them with the "
                "reason. --resume tries them again."
            )
