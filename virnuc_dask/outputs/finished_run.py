"""A finished run, and its tables for pandas, polars, DuckDB and Dask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pyarrow as pa

from virnuc_dask.errors import BadTableError, LostRowsError, UsageError
from virnuc_dask.outputs.report.page import REPORT, write_again
from virnuc_dask.stages.calls import CallRule
from virnuc_dask.stages.receipt import Failure
from virnuc_dask.tables import schemas
from virnuc_dask.tables.folder import RunFolder
from virnuc_dask.tables.parquet import local
from virnuc_dask.tables.plan import read_plan

if TYPE_CHECKING:
    import pyarrow.dataset as ds

FrameKind = Literal["pandas", "polars", "arrow"]

_COLUMNS = {"partitions": schemas.PARTITION, "predictions": schemas.PREDICTIONS}


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, its summary, and what failed."""

    folder: Path
    summary: Mapping[str, Any]
    failures: tuple[Failure, ...] = ()
    rule: CallRule = field(default_factory=CallRule, repr=False, compare=False)

    def contigs(self, kind: FrameKind = "pandas") -> Any:
        """``contigs.parquet`` as ``kind`` says; `UsageError` if that is not installed."""
        return as_frame(self.dataset("contigs").to_table(), kind)

    def chunks(self, kind: FrameKind = "pandas") -> Any:
        """``chunks.parquet``, as `contigs`."""
        return as_frame(self.dataset("chunks").to_table(), kind)

    def genes(self, kind: FrameKind = "pandas") -> Any:
        """``genes.parquet``, as `contigs`; `UsageError` also if the model set reads none."""
        return as_frame(self.dataset("genes").to_table(), kind)

    def report(self) -> Path:
        """Path of ``report.html``, made where it is not there; `BadTableError` if it cannot be."""
        folder = RunFolder.of_run(self.folder)
        path = folder.output(REPORT)
        return path if path.exists() else write_again(folder, self.rule)

    def dataset(self, name: str) -> ds.Dataset:
        """A table as an Arrow dataset, which pandas, polars, DuckDB and Dask read.

        ``name`` is ``contigs``, ``chunks``, ``records``, ``predictions``, ``features`` or
        ``partitions``; ``genes`` of a run with a model set that reads genes. `UsageError` if there
        is no table of this name, `BadTableError` if the run kept none.
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
        plan = read_plan(folder)
        alone = {each: folder.output(f"{each}.parquet") for each in ("contigs", "chunks")}
        alone["records"] = folder.records
        if plan is not None and plan.decisions.reads_genes:
            alone["genes"] = folder.output("genes.parquet")
        several = {
            "partitions": folder.partition,
            "features": folder.features,
            "predictions": folder.predictions,
        }
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


def as_frame(table: pa.Table, kind: FrameKind) -> Any:
    """A table as ``kind`` says; `UsageError` if that is not installed, or not known."""
    if kind not in get_args(FrameKind):
        raise UsageError(f"no frame of kind {kind!r}; there are {', '.join(get_args(FrameKind))}.")
    if kind == "arrow":
        return table
    try:
        library = import_module(kind)
    except ImportError as error:
        raise UsageError(
            f"{kind} is not installed: `pip install {kind}`, or ask for kind='arrow'."
        ) from error
    return table.to_pandas() if kind == "pandas" else library.from_arrow(table)
