"""The house's rules about imports, read from the source with ``ast``."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "virnuc_dask"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room imports from itself and from lower floors; rooms of one floor know nothing of each other.
FLOORS = [
    {"errors"},
    {"config"},
    {"tables"},
    {"sequences"},
    {"encoders"},
    {"modelsets"},
    {"stages"},
    {"cluster"},
    {"outputs", "quality"},
    {"training"},
    {"pretraining"},
    {"measuring"},
    {"planning"},
    {"run"},
    {"evaluate", "train", "bench"},
    {"pretrain"},
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ENTRANCES = {"__init__", "__main__"}

DASK_ROOMS = {"cluster"}
TORCH_ROOMS = {"encoders", "modelsets", "training", "pretraining", "measuring"}
# run() takes a client that its caller already has, and names its type.
DISTRIBUTED_TYPES = {("run.py", "Client")}
RUNNING_BUILTINS = {"eval", "exec", "compile", "__import__"}
PICKLE_ERROR = "pickle.UnpicklingError"  # what torch.load raises: caught, so it must be named
SLOW = {"torch", "esm", "sklearn", "scipy", "matplotlib", "Bio"}  # to import
PICKLES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}

named = pytest.mark.parametrize(
    "module", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").parts[0]


def nodes_of(module: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(module.read_text(encoding="utf-8")))


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


@named
def test_a_room_imports_only_itself_and_rooms_below(module):
    room = room_of(module)
    if room in ENTRANCES:
        return
    for imported in rooms_imported(module):
        allowed = imported == room or FLOOR_OF.get(imported, len(FLOORS)) < FLOOR_OF[room]
        # The command line shows the version, which stands in the package itself.
        assert allowed or (room, imported) == ("cli", ""), f"{room} imports {imported or 'the top'}"


@named
def test_only_the_cluster_room_knows_dask_distributed(module):
    if room_of(module) in DASK_ROOMS:
        return
    known = {"distributed", "dask_cuda", "dask_jobqueue"}
    found = {
        (module.name, name)
        for imported, name in imports_of(module)
        if imported.split(".")[0] in known or imported.startswith("dask.distributed")
    }
    assert found <= DISTRIBUTED_TYPES


@named
def test_the_rooms_of_the_science_do_not_know_dask(module):
    if room_of(module) not in DASK_ROOMS | {"config"}:
        assert "dask" not in tops_imported(module)


@named
def test_only_the_rooms_of_the_models_know_torch(module):
    if room_of(module) not in TORCH_ROOMS:
        assert not tops_imported(module) & {"torch", "safetensors", "tokenizers", "esm"}


@named
def test_only_the_plugin_asks_for_the_worker(module):
    asked = {dotted(call.func).rpartition(".")[2] for call in calls_in(module)}
    imported = {name for _, name in imports_of(module)}
    if module.relative_to(PACKAGE).as_posix() != "cluster/plugin.py":
        assert "get_worker" not in asked | imported


def test_the_plugin_does_ask_for_the_worker():
    calls = calls_in(PACKAGE / "cluster" / "plugin.py")
    assert "get_worker" in {dotted(call.func) for call in calls}


@named
def test_no_pickle_is_read_and_no_text_is_run(module):
    imported = {(top.split(".")[0], name) for top, name in imports_of(module)}
    assert {pair for pair in imported if pair[0] in PICKLES} <= {("pickle", "")}
    used = {dotted(node) for node in nodes_of(module) if isinstance(node, ast.Attribute)}
    assert {name for name in used if name.startswith("pickle.")} <= {PICKLE_ERROR}
    assert not {dotted(call.func) for call in calls_in(module)} & RUNNING_BUILTINS


def is_true(call: ast.Call, keyword: str) -> bool:
    values = [k.value for k in call.keywords if k.arg == keyword]
    return any(isinstance(value, ast.Constant) and value.value is True for value in values)


@named
def test_checkpoints_are_read_as_weights_only_and_numpy_without_pickles(module):
    renamed = {name for imported, name in imports_of(module) if imported in ("torch", "numpy")}
    assert "load" not in renamed, "call it torch.load, so that this test sees it"
    for call in calls_in(module):
        name = dotted(call.func)
        if name in ("torch.load", "torch.serialization.load"):
            assert is_true(call, "weights_only")
        if name in ("np.load", "numpy.load"):
            assert not is_true(call, "allow_pickle")
        assert not name.startswith(("torch.hub.", "torch.jit.load"))
        assert not any(keyword.arg == "trust_remote_code" for keyword in call.keywords)


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
