"""A published model set: its files brought here, then imported as any other checkpoints."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from virnuc_dask.errors import OutputInUseError
from virnuc_dask.modelsets.fetching.download import Progress, UnreachableError, bring
from virnuc_dask.modelsets.fetching.published import LICENCES, SETS
from virnuc_dask.modelsets.manifest import MANIFEST, ModelSetInfo, home, kept, read_info
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
    target = kept() / name
    yield f"{name} -> {target}{' (is there)' if (target / MANIFEST).is_file() else ''}"
    for file in SETS[name].files:
        path = downloads() / file.part / file.name
        there = [str(p) for p in (path, file.elsewhere) if p is not None and p.exists()]
        size = "size unknown" if file.size is None else f"{file.size:,} bytes"
        known = "checksum not published: trusted once" if file.sha256 is None else file.sha256
        yield f"{file.part}  {file.name}  {size}  {known}\n  from {file.url}"
        yield f"  licence: {LICENCES[file.part]}{f'; is in {there[0]}' if there else ''}"
    total = sum(file.size or 0 for file in SETS[name].files)
    yield (
        f"{total:,} bytes to download into {downloads()}, which can be deleted afterwards, and "
        "about as many again for the model set."
    )


def fetch(
    name: str, weights: str | None, tell: Callable[[str], None], seen: Progress
) -> tuple[Path, ModelSetInfo]:
    """Have the published model set ``name`` in `kept`; returns its folder. One fetch at a time.

    ``weights`` as of `import_modelset`. Raises `UnreachableError`, with the way by another machine,
    where a place cannot be reached, and what `bring` and `import_modelset` raise.
    """
    folder = kept() / name
    with writing(kept()):
        kept().mkdir(parents=True, exist_ok=True)
    with _alone(tell):
        if not (folder / MANIFEST).is_file():
            for left in kept().glob(f".{name}.*.import"):  # by one that was killed
                shutil.rmtree(left, ignore_errors=True)
            _make(name, folder, weights, tell, seen)
    return folder, read_info(folder)


def _make(
    name: str, folder: Path, weights: str | None, tell: Callable[[str], None], seen: Progress
) -> None:
    published = SETS[name]
    try:
        paths = [bring(f, downloads() / f.part, tell, seen) for f in published.files]
    except UnreachableError as error:
        raise UnreachableError(f"{error}{_ELSEWHERE.format(name=name)}") from error
    tell(f"importing {name} into {folder}")
    from virnuc_dask.modelsets.importing.modelset import Checkpoints, import_modelset

    licence = "; ".join(f"{part}: {LICENCES[part]}" for part in LICENCES)
    checkpoints = Checkpoints(paths[0].parent, paths[-2], paths[-1])
    import_modelset(name, folder, (published.length,), checkpoints, weights, licence)


@contextmanager
def _alone(tell: Callable[[str], None]) -> Iterator[None]:
    """Wait for another fetch to end."""
    with ExitStack() as stack:
        waits = False
        while True:
            try:
                stack.enter_context(locked(home() / "fetch.lock", "another fetch is under way."))
                break
            except OutputInUseError:
                if not waits:
                    tell("another fetch is under way; waiting for it.")
                waits = True
                time.sleep(0.5)
        yield
