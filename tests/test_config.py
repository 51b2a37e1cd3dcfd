import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import dask.config
import pytest
import yaml
from pydantic import TypeAdapter

from virnuc_dask.config import ClusterSettings, Settings, load_settings
from virnuc_dask.errors import BadInputError, BadSettingError

CONFIGS = Path(__file__).parent.parent / "configs"
Preset = Callable[[str], Path]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine():
    """Neither the user's Dask configuration nor what an earlier test set."""
    with dask.config.set({"virnuc": {}}):
        yield


@pytest.fixture
def preset(tmp_path: Path) -> Preset:
    def write(text: str) -> Path:
        path = tmp_path / "preset.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("text", [None, "", "virnuc:", "virnuc: {}", "# nothing\n"])
def test_where_nothing_is_said_the_defaults_hold(preset, text):
    assert load_settings(None if text is None else preset(text)) == Settings()


def test_flags_beat_the_environment_which_beats_the_file_which_beats_dask(preset, monkeypatch):
    monkeypatch.setenv("DASK_VIRNUC__CLUSTER__WORKERS", "5")
    monkeypatch.setenv("DASK_VIRNUC__MAX_TOKENS", "9")
    monkeypatch.setenv("DASK_VIRNUC__MODEL", "from-environment")
    file = preset(
        "virnuc: {model: from-file, length: 300, max-tokens: 7, cluster: {workers: 3, threads: 2}}"
    )
    # A flag of None was not given; false and 0 were.
    flags = {"model": "from-flag", "cluster.threads": None, "features": False}
    flags |= {"cluster.dashboard_port": 0}
    with dask.config.set({"virnuc.length": 500, "virnuc.cluster.worker-timeout-s": 1}):
        found = load_settings(file, flags)
    assert (found.model, found.length, found.max_tokens, found.features) == (
        *("from-flag", 300, 9, False),
    )
    cluster = found.cluster
    assert (cluster.workers, cluster.threads, cluster.dashboard_port) == (5, 2, 0)
    assert cluster.worker_timeout_s == 1.0
    assert isinstance(cluster.worker_timeout_s, float)
    assert cluster.kind == Settings().cluster.kind


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("modle", 1, "unknown setting virnuc.modle; did you mean model? known: cluster, "),
        ("cluster.wrokers", 1, "virnuc.cluster.wrokers; did you mean workers?"),
        ("length", 2, "length must be a whole number of at least 3 or null, not 2."),
        ("length", "500", "length must be a whole number of at least 3 or null, not '500'."),
        ("length", 500.0, "length must be a whole number of at least 3 or null, not 500.0."),
        ("length", True, "length must be a whole number of at least 3 or null, not True."),
        ("length", "x" * 10_000, "not [...]"),
        ("precision", "fp7", "precision must be one of auto, fp32, bf16, fp16, fp8, not 'fp7'."),
        ("fdr", 1, "fdr must be a number above 0 and below 1 or null, not 1."),
        ("features", 1, "virnuc.features must be true or false, not 1."),
        ("cluster", 3, "virnuc.cluster must be named values, not 3."),
        ("cluster.kind", "kubernetes", "cluster.kind must be one of auto, none, cpu, cuda, slurm,"),
        ("cluster.host", "node7", "must be an IPv4 address of this machine, not 'node7'"),
        ("cluster.worker_timeout_s", float("nan"), "must be a number above 0 or null, not nan."),
        ("memory.gpu_fraction", 2, "memory.gpu_fraction must be a number above 0 and of at most 1"),
        ("cluster.tls_key", "key.pem", "virnuc.cluster needs tls_ca_file, tls_cert as well"),
    ],
)
def test_a_refusal_tells_all_that_a_setting_may_be(flag, value, message):
    with pytest.raises(BadSettingError, match=re.escape(message)):
        load_settings(flags={flag: value})


def test_settings_made_in_python_are_checked_as_well():
    for made, message in (
        (lambda: Settings(length="500"), r"^Settings\.length must be a whole number"),
        (lambda: ClusterSettings(wrokers=2), r"ClusterSettings\.wrokers; did you mean workers"),
        (lambda: replace(Settings(), max_tokens=0), r"^Settings\.max_tokens must be"),
    ):
        with pytest.raises(BadSettingError, match=message):
            made()


def test_an_unknown_setting_in_a_file_or_the_environment_is_refused(preset, monkeypatch):
    with pytest.raises(BadSettingError, match=r"virnuc\.lenght"):
        load_settings(str(preset("virnuc: {lenght: 500}")))
    monkeypatch.setenv("DASK_VIRNUC__MODLE", "mini")
    with pytest.raises(BadSettingError, match=r"virnuc\.modle"):
        load_settings(preset("virnuc: {}"))


def test_every_setting_is_described_in_the_schema():
    schema = TypeAdapter(Settings).json_schema()
    for name, group in ({"Settings": schema} | schema["$defs"]).items():
        for setting, said in group["properties"].items():
            assert "$ref" in said or said.get("description"), f"{name}.{setting}"


@pytest.mark.parametrize(
    "text",
    [
        "virnuc: {}\nmodel: mini",
        "- virnuc",
        "virnuc: mini",
        "virnuc: {model: [unclosed",
        "!!python/object/apply:os.mkdir [made_by_yaml]",
        "virnuc: \udcff",
    ],
)
def test_a_file_that_is_no_preset_is_refused_naming_it(preset, text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = preset("")
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(BadSettingError, match="preset"):
        load_settings(path)
    assert list(tmp_path.iterdir()) == [path]  # nothing in it was run


def test_a_file_that_cannot_be_read_is_bad_input(tmp_path):
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(BadInputError, match=str(path)):
            load_settings(path)


# That of pretrain is another kind: tests/lab/test_recipe.py.
@pytest.mark.parametrize("path", sorted({*CONFIGS.glob("*.yaml")} - {CONFIGS / "mini.yaml"}))
def test_a_preset_is_what_it_says_and_differs_from_the_defaults(path):
    stated = yaml.safe_load(path.read_text(encoding="utf-8"))["virnuc"]
    settings = asdict(load_settings(path))
    assert dask.config.merge(asdict(Settings()), stated) == settings
    assert settings != asdict(Settings())
