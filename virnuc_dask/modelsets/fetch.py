"""A published model set: its files brought here, then imported as any other checkpoints."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from virnuc_dask.errors import OutputInUseError
from virnuc_dask.modelsets.download import UnreachableError, Watch, bring
from virnuc_dask.modelsets.manifest import MANIFEST, ModelSetInfo, home, kept, read_info
from virnuc_dask.modelsets.published import LENGTHS, LICENCES, files_of
from virnuc_dask.tables.locks import locked
from virnuc_dask.tables.paths import writing

_ELSEWHERE = """
On a machine with a network:
  virnuc-dask models fetch {name}
  virnuc-dask models export {name} {name}.tar
Bring {name}.tar here, then:
  virnuc-dask models add {name}.tar"""


def downloads() -> Path:
    """Where checkpoints are kept as they came. Nothing needs them once a set is made of them."""
    return home() / "downloads"


def plan_lines(name: str) -> Iterator[str]:
    """What `fetch` would bring, from where, how large, under which licence, and where to."""
    yield f"{name} -> {kept() / name}{' (is there)' if _is_there(name) else ''}"
    files = files_of(name)
    for file in files:
        places = (downloads() / file.part / file.name, file.elsewhere)
        there = next((f"; is in {path}" for path in places if path and path.exists()), "")
        size = "size unknown" if file.size is None else f"{file.size:,} bytes"
        known = file.sha256 or "checksum not published: trusted the first time"
        yield f"{file.part}  {file.name}  {size}  {known}"
        yield f"  from {file.url}\n  licence: {LICENCES[file.part]}{there}"
    yield (
        f"{sum(file.size or 0 for file in files):,} bytes to download into {downloads()}, which "
        "can be deleted afterwards, and about as many again for the model set."
    )


def fetch(name: str, weights: str | None, watch: Watch) -> tuple[Path, ModelSetInfo]:
    """Have the published model set ``name`` in `kept`; returns its folder. One fetch at a time.

    ``weights`` as of `import_modelset`. Raises `UnreachableError`, with the way by another machine,
    where a place cannot be reached, and what `bring` and `import_modelset` raise.
    """
    if not _is_there(name):
        with writing(kept()), _alone(watch.tell):
            if not _is_there(name):
                _make(name, weights, watch)
    return kept() / name, read_info(kept() / name)


def _is_there(name: str) -> bool:
    return (kept() / name / MANIFEST).is_file()


def _make(name: str, weights: str | None, watch: Watch) -> None:
    for left in kept().glob(f".{name}.*.import"):  # by a fetch that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        paths = [bring(file, downloads() / file.part, watch) for file in files_of(name)]
    except UnreachableError as error:
        raise UnreachableError(f"{error}{_ELSEWHERE.format(name=name)}") from error
    watch.tell(f"importing {name} into {kept()}")
    from virnuc_dask.modelsets.importing.modelset import Checkpoints, import_modelset

    licence = "; ".join(map(": ".join, LICENCES.items()))
    checkpoints = Checkpoints(paths[0].parent, paths[-2], paths[-1])
    import_modelset(name, kept() / name, (LENGTHS[name],), checkpoints, weights, licence)


@contextmanager
def _alone(tell: Callable[[str], None]) -> Iterator[None]:
    """Wait for another fetch to end."""
    kept().mkdir(parents=True, exist_ok=True)
    waits = False
    while True:
        try:
            with locked(home() / "fetch.lock", ""):
                yield
                return
        except OutputInUseError:
            if not waits:
                tell("another fetch is under way; waiting for it.")
            waits = True
            time.sleep(0.5)
