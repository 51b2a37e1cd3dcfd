"""The house's rules about imports, read from the source with ``ast``."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "virnuc_dask"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room imports from itself and from those before it.
FLOORS = (
    *("errors", "checks", "config", "tables", "sequences", "encoders", "modelsets", "stages"),
    *("cluster", "outputs", "planning", "run_context", "run", "in_memory", "doctor", "lab", "cli"),
)
ENTRANCES = {"__init__", "__main__"}
DASK_ROOMS = {"cluster"}
TORCH_ROOMS = {"encoders", "modelsets", "lab"}
# run() takes a client that its caller already has, and names its type.
DISTRIBUTED_TYPES = {("run.py", "Client"), ("run_context.py", "Client")}
RUNNING_BUILTINS = {"eval", "exec", "compile", "__import__"}
PICKLE_ERROR = "pickle.UnpicklingError"  # what torch.load raises: caught, so it must be named
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def nodes_of(module: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))


def imports_of(module: Path) -> Iterator[tuple[str, str]]:
    """Every import, in functions too, as (module, name); the name is empty for ``import x``."""
    for node in nodes_of(module):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield from ((node.module or "", alias.name) for alias in node.names)


def rooms_imported(module: Path) -> set[str]:
    """Rooms of the package that a module imports from; "" is the package itself."""
    paths = [(*top.split("."), name, "") for top, name in imports_of(module)]
    return {path[1] if path[1] in FLOORS else "" for path in paths if path[0] == PACKAGE.name}


def tops_imported(module: Path) -> set[str]:
    return {imported.split(".")[0] for imported, _ in imports_of(module)}


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a name or an attribute; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls_in(module: Path) -> list[ast.Call]:
    return [node for node in nodes_of(module) if isinstance(node, ast.Call)]


def assert_none(found: dict[Path, object]) -> None:
    """Nothing was found in any module; if something was, say where."""
    assert {p.relative_to(PACKAGE).as_posix(): what for p, what in found.items() if what} == {}


def outside(rooms: set[str]) -> list[Path]:
    return [module for module in MODULES if room_of(module) not in rooms]


def test_there_is_something_to_read():
    assert {room_of(module) for module in MODULES} == {*FLOORS, *ENTRANCES}


def imports_forbidden(module: Path) -> set[str]:
    room = room_of(module)
    # The command line shows the version, which the package itself has.
    known = {room, "", *FLOORS} if room == "cli" else {room, *FLOORS[: FLOORS.index(room)]}
    return rooms_imported(module) - known


def test_a_room_imports_only_itself_and_rooms_before_it():
    assert_none({module: imports_forbidden(module) for module in outside(ENTRANCES)})


def test_only_the_cluster_room_knows_dask():
    def distributed(module: Path) -> set[tuple[str, str]]:
        known = {"distributed", "dask_cuda", "dask_jobqueue"}
        imports = {(top, name) for top, name in imports_of(module) if top.split(".")[0] in known}
        return {(module.name, name) for _, name in imports} - DISTRIBUTED_TYPES

    assert_none({module: distributed(module) for module in outside(DASK_ROOMS)})
    assert_none({m: tops_imported(m) & {"dask"} for m in outside(DASK_ROOMS | {"config"})})


def test_only_the_rooms_of_the_models_know_torch():
    models = {"torch", "safetensors", "tokenizers", "esm"}
    assert_none({m: tops_imported(m) & models for m in outside(TORCH_ROOMS)})


def test_only_the_plugin_asks_for_the_worker():
    def asks(module: Path) -> bool:
        asked = {dotted(call.func).rpartition(".")[2] for call in calls_in(module)}
        return "get_worker" in asked | {name for _, name in imports_of(module)}

    assert [m for m in MODULES if asks(m)] == [PACKAGE / "cluster" / "plugin.py"]


def pickles_and_running_text(module: Path) -> set[object]:
    imported = {(top.split(".")[0], name) for top, name in imports_of(module)}
    used = {dotted(node) for node in nodes_of(module) if isinstance(node, ast.Attribute)}
    return (
        {pair for pair in imported if pair[0] in PICKLES and pair != ("pickle", "")}
        | {name for name in used if name.startswith("pickle.") and name != PICKLE_ERROR}
        | {dotted(call.func) for call in calls_in(module)} & RUNNING_BUILTINS
    )


def test_no_pickle_is_read_and_no_text_is_run():
    assert_none({module: pickles_and_running_text(module) for module in MODULES})


def reads_unsafely(call: ast.Call) -> bool:
    name, keywords = dotted(call.func), {k.arg: ast.unparse(k.value) for k in call.keywords}
    return (
        (
            name in ("torch.load", "torch.serialization.load")
            and keywords.get("weights_only") != "True"
        )
        or (name in ("np.load", "numpy.load") and keywords.get("allow_pickle") == "True")
        or name.startswith(("torch.hub.", "torch.jit.load"))
        or "trust_remote_code" in keywords
    )


def test_checkpoints_are_read_as_weights_only_and_numpy_without_pickles():
    assert_none({m: [c.lineno for c in calls_in(m) if reads_unsafely(c)] for m in MODULES})
    # Called torch.load, so that this test sees it.
    loads = {("torch", "load"), ("numpy", "load")}
    assert_none({module: loads & set(imports_of(module)) for module in MODULES})


def test_these_tests_see_what_they_look_for(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        "torch.load(x, weights_only=False)\nnp.load(x, allow_pickle=True)\ntorch.hub.load(x)\n"
        "f(trust_remote_code=True)\nnp.load(x)\ntorch.load(x, weights_only=True)\n"
    )
    assert [call.lineno for call in calls_in(module) if reads_unsafely(call)] == [1, 2, 3, 4]
    module = tmp_path / "other.py"
    module.write_text(
        "from pickle import loads\nimport dill\neval(x)\npickle.load(f)\n"
        "def f():\n    from virnuc_dask.cluster.plugin import x\n"
        "import virnuc_dask.run\nfrom virnuc_dask import errors, __version__\n"
    )
    found = {("pickle", "loads"), ("dill", ""), "eval", "pickle.load"}
    assert pickles_and_running_text(module) == found
    assert rooms_imported(module) == {"cluster", "run", "errors", ""}
