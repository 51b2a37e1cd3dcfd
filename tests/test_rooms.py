"""The house's rules about imports, read from the source with ``ast``."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "virnuc_dask"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room imports from itself and from lower floors; rooms of one floor know nothing of each other.
FLOORS = [
    {"errors"},
    {"checks"},
    {"config"},
    {"tables"},
    {"sequences"},
    {"encoders"},
    {"modelsets"},
    {"stages"},
    {"cluster"},
    {"outputs"},
    {"planning"},
    {"run"},
    # Look on, make and measure; nothing of the main job is above them.
    {"doctor", "lab"},
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ENTRANCES = {"__init__", "__main__"}

DASK_ROOMS = {"cluster"}
TORCH_ROOMS = {"encoders", "modelsets", "training", "lab"}
# run() takes a client that its caller already has, and names its type.
DISTRIBUTED_TYPES = {("run.py", "Client")}
RUNNING_BUILTINS = {"eval", "exec", "compile", "__import__"}
PICKLE_ERROR = "pickle.UnpicklingError"  # what torch.load raises: caught, so it must be named
SLOW = {"torch", "esm", "sklearn", "scipy", "matplotlib", "Bio", "pyrodigal"}  # to import
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
    """Rooms of the package that a module imports from; "" stands for the package itself."""
    rooms = set()
    for imported, name in imports_of(module):
        package, *below = imported.split(".")
        if package != PACKAGE.name:
            continue
        if below:
            rooms.add(below[0])
        else:
            rooms.add(name if name in FLOOR_OF else "")
    return rooms


def tops_imported(module: Path) -> set[str]:
    return {imported.split(".")[0] for imported, _ in imports_of(module)}


def dotted(node: ast.AST) -> str:
    """``a.b.c`` of a name or an attribute; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def calls_in(module: Path) -> list[ast.Call]:
    return [node for node in nodes_of(module) if isinstance(node, ast.Call)]


def test_there_is_something_to_read():
    assert len(MODULES) > 30
    assert {room_of(module) for module in MODULES} == set(FLOOR_OF) | ENTRANCES


def assert_none(found: dict[Path, object]) -> None:
    """Nothing was found in any module; if something was, say where."""
    assert {
        path.relative_to(PACKAGE).as_posix(): what for path, what in found.items() if what
    } == {}


def outside(rooms: set[str]) -> list[Path]:
    return [module for module in MODULES if room_of(module) not in rooms]


def imports_forbidden(module: Path) -> set[str]:
    room = room_of(module)
    # The command line shows the version, which stands in the package itself.
    known = {room, ""} if room == "cli" else {room}
    return {
        imported
        for imported in rooms_imported(module) - known
        if FLOOR_OF.get(imported, len(FLOORS)) >= FLOOR_OF[room]
    }


def test_a_room_imports_only_itself_and_rooms_below():
    assert_none({module: imports_forbidden(module) for module in outside(ENTRANCES)})


def module_named(name: str) -> Path | None:
    """The package's module of that name; a package is its ``__init__``."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    return next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p in MODULES), None)


def modules_imported(module: Path) -> set[Path]:
    """Modules of the package that a module imports, in functions too."""
    names = {each for pair in imports_of(module) for each in (pair[0], ".".join(pair))}
    found = {module_named(name) for name in names if name.split(".")[0] == PACKAGE.name}
    return {path for path in found if path is not None}


def circle_among(imports: dict[Path, set[Path]]) -> set[Path]:
    """Modules that import each other round about, and what they alone are imported by."""
    left = dict(imports)
    while free := [module for module, needs in left.items() if not needs & left.keys()]:
        for module in free:
            del left[module]
    return set(left)


def test_no_files_import_each_other_round_about():
    imports = {module: modules_imported(module) for module in MODULES}
    assert {path.relative_to(PACKAGE).as_posix() for path in circle_among(imports)} == set()


def test_this_test_sees_a_circle():
    one, two, three = Path("1"), Path("2"), Path("3")
    assert circle_among({one: {two}, two: {three}, three: set()}) == set()
    assert circle_among({one: {two}, two: {one}, three: set()}) == {one, two}
    assert circle_among({one: {one}}) == {one}


def test_the_main_job_does_not_know_what_is_above_it():
    above = {"doctor", "lab"}
    modules = outside({*above, "cli"})
    assert_none({module: rooms_imported(module) & above for module in modules})


def distributed_imports(module: Path) -> set[tuple[str, str]]:
    known = {"distributed", "dask_cuda", "dask_jobqueue"}
    return {
        (module.name, name)
        for imported, name in imports_of(module)
        if imported.split(".")[0] in known or imported.startswith("dask.distributed")
    }


def test_only_the_cluster_room_knows_dask_distributed():
    assert_none({m: distributed_imports(m) - DISTRIBUTED_TYPES for m in outside(DASK_ROOMS)})


def test_the_rooms_of_the_science_do_not_know_dask():
    assert_none({m: tops_imported(m) & {"dask"} for m in outside(DASK_ROOMS | {"config"})})


def test_only_the_rooms_of_the_models_know_torch():
    models = {"torch", "safetensors", "tokenizers", "esm"}
    assert_none({m: tops_imported(m) & models for m in outside(TORCH_ROOMS)})


def asks_for_the_worker(module: Path) -> bool:
    asked = {dotted(call.func).rpartition(".")[2] for call in calls_in(module)}
    return "get_worker" in asked | {name for _, name in imports_of(module)}


def test_only_the_plugin_asks_for_the_worker():
    plugin = PACKAGE / "cluster" / "plugin.py"
    assert [module for module in MODULES if asks_for_the_worker(module)] == [plugin]


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


def is_true(call: ast.Call, keyword: str) -> bool:
    values = [k.value for k in call.keywords if k.arg == keyword]
    return any(isinstance(value, ast.Constant) and value.value is True for value in values)


def reads_unsafely(call: ast.Call) -> bool:
    name = dotted(call.func)
    return (
        (name in ("torch.load", "torch.serialization.load") and not is_true(call, "weights_only"))
        or (name in ("np.load", "numpy.load") and is_true(call, "allow_pickle"))
        or name.startswith(("torch.hub.", "torch.jit.load"))
        or any(keyword.arg == "trust_remote_code" for keyword in call.keywords)
    )


def test_checkpoints_are_read_as_weights_only_and_numpy_without_pickles():
    unsafe = {m: [c.lineno for c in calls_in(m) if reads_unsafely(c)] for m in MODULES}
    assert_none(unsafe)
    # Called torch.load, so that this test sees it.
    loads = {("torch", "load"), ("numpy", "load")}
    assert_none({module: loads & set(imports_of(module)) for module in MODULES})


def test_this_test_sees_every_kind_of_reading(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        "torch.load(x, weights_only=False)\nnp.load(x, allow_pickle=True)\ntorch.hub.load(x)\n"
        "f(trust_remote_code=True)\nnp.load(x)\ntorch.load(x, weights_only=True)\n"
    )
    assert [call.lineno for call in calls_in(module) if reads_unsafely(call)] == [1, 2, 3, 4]
    module = tmp_path / "other.py"
    module.write_text("from pickle import loads\nimport dill\neval(x)\npickle.load(f)\n")
    found = {("pickle", "loads"), ("dill", ""), "eval", "pickle.load"}
    assert pickles_and_running_text(module) == found


@pytest.mark.parametrize(
    "statement",
    ["import virnuc_dask", "import virnuc_dask.cli", "from virnuc_dask.cluster import plugin"],
)
def test_the_client_starts_without_torch_and_what_only_training_needs(statement):
    program = f"import sys; {statement}; print(*sorted({SLOW} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("source", "rooms"),
    [
        ("def f():\n    from virnuc_dask.cluster.plugin import x", {"cluster"}),
        ("import virnuc_dask.run", {"run"}),
        ("from virnuc_dask import errors, __version__", {"errors", ""}),
        ("import virnuc_dask", {""}),
        ("import numpy", set()),
    ],
)
def test_this_test_sees_every_kind_of_import(tmp_path, source, rooms):
    module = tmp_path / "module.py"
    module.write_text(source)
    assert rooms_imported(module) == rooms
