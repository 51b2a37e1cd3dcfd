"""What keeps a cluster on this machine from starting: told early, or at least in one line."""

from __future__ import annotations

import ast
import resource
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import current_process
from pathlib import Path
from types import FrameType

import dask.config
import psutil

from virnuc_dask.cluster.addresses import refuse_foreign_host
from virnuc_dask.errors import BadSettingError, NoClusterError, UsageError

# Python, Dask and torch with a worker's threads took 1.2 to 1.8 GB; memory is a third of that.
_ADDRESS_SPACE_BYTES = 2_000_000_000
_GUARD = 'if __name__ == "__main__":'


def refuse_small_address_space() -> None:
    """Find out early whether torch can be loaded at all.

    Raises
    ------
    NoClusterError
        If processes may have less address space than an encoder of a few megabytes needs.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < _ADDRESS_SPACE_BYTES:
        raise NoClusterError(
            f"a process may have {limit / 1e9:.1f} GB of address space here (ulimit -v), and even "
            f"small models need {_ADDRESS_SPACE_BYTES / 1e9:.0f} GB; raise the limit."
        )


def refuse_unstartable(host: str) -> None:
    """Find out early, and without starting anything, why workers would not start here.

    Raises
    ------
    NoClusterError
        If ``host`` is no address of this machine.
    BadSettingError
        If Dask's temporary directory cannot be written.
    UsageError
        If they would run again the script that calls this.
    """
    if getattr(current_process(), "_inheriting", False):
        # A worker that imports the script it was started from, and came to the very call that
        # started it: it can only end, and whoever waits for it tells why.
        raise SystemExit(1)
    refuse_foreign_host(host)
    _refuse_unwritable_directory()
    _refuse_script()


@contextmanager
def starting() -> Iterator[None]:
    """Say in one line why a cluster does not start.

    Raises
    ------
    NoClusterError
        If what is done inside fails, as Dask's clusters do.
    """
    try:
        with warnings.catch_warnings():
            # Another run can take the dashboard's port after it was found free; Dask takes any
            # other then, and the line that tells of the cluster names it.
            warnings.filterwarnings("ignore", r"\s*Port \d+ is already in use")
            yield
    except (RuntimeError, OSError, MemoryError) as error:
        reason: BaseException = error
        while reason.__cause__ is not None:
            reason = reason.__cause__
        raise NoClusterError(
            f"the workers did not start: {str(reason) or type(reason).__name__}. Is memory short "
            f"(ulimit -v), or does a script call this without `{_GUARD}`? Once it is mended, "
            "continue with --resume."
        ) from None  # Dask's own errors on the way from there say no more


def _refuse_unwritable_directory() -> None:
    """`BadSettingError` if workers would have no place for their temporary files."""
    name = dask.config.get("temporary-directory", None) or None
    try:
        if name is not None:  # Dask makes it too
            Path(name).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=name):
            pass
    except (OSError, TypeError) as error:
        raise BadSettingError(
            f"{name or 'temporary directory'}: workers cannot write here "
            f"({getattr(error, 'strerror', None) or error}); set DASK_TEMPORARY_DIRECTORY, or "
            "temporary-directory in Dask's configuration, to a folder that they can write."
        ) from error


def _refuse_script() -> None:
    """`UsageError` if this is called by a script that workers cannot import without harm.

    Each imports the script that was started, if it came from a file. What is in it under an
    ``if`` may be guarded.
    """
    main = vars(sys.modules["__main__"])
    if main.get("__file__") is None or (line := _line_in(main)) is None:
        return
    file = Path(main["__file__"])
    if _was_edited(file):  # the line that runs is another one there
        return
    if main.get("__spec__") is None and not file.is_file():
        raise UsageError(f"{file}: workers import the script that calls this; save it as a file.")
    try:
        statements = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return
    for statement in statements:
        here = statement.lineno <= line <= (statement.end_lineno or line)
        if here and not _may_be_guarded(statement):
            raise UsageError(
                f"{file}, line {line}: every worker imports this script and would run this line "
                f"again; put it, and what follows from it, under `{_GUARD}`."
            )


def _was_edited(file: Path) -> bool:
    """Whether a file is newer than this process, whose start is known to a second or so."""
    try:
        return file.stat().st_mtime > psutil.Process().create_time() + 2
    except OSError:
        return False


def _line_in(main: dict[str, object]) -> int | None:
    """The line of the script that is running now; None if something else called this."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals is main and frame.f_code.co_name == "<module>":
            return frame.f_lineno
        frame = frame.f_back
    return None


def _may_be_guarded(statement: ast.stmt) -> bool:
    return any(
        isinstance(node, ast.If) or (isinstance(node, ast.Name) and node.id == "__name__")
        for node in ast.walk(statement)
    )
