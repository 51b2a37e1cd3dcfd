import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, replace
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


def test_without_anything_said_the_defaults_hold():
    assert load_settings() == Settings()


def test_a_file_beats_the_defaults(preset):
    settings = load_settings(preset("virnuc:\n  model: other\n  cluster:\n    workers: 3\n"))
    assert (settings.model, settings.cluster.workers) == ("other", 3)
    assert settings.cluster.kind == Settings().cluster.kind


def test_the_environment_beats_the_file(preset, monkeypatch):
    monkeypatch.setenv("DASK_VIRNUC__MODEL", "from-environment")
    monkeypatch.setenv("DASK_VIRNUC__CLUSTER__WORKERS", "5")
    settings = load_settings(
        preset("virnuc:\n  model: from-file\n  cluster: {workers: 3, threads: 2}\n")
    )
    assert (settings.model, settings.cluster.workers) == ("from-environment", 5)
    assert settings.cluster.threads == 2


def test_the_environment_beats_the_defaults_without_a_file():
    shown = "from virnuc_dask.config import load_settings; print(load_settings().max_tokens)"
    done = subprocess.run(
        [sys.executable, "-c", shown],
        env={**os.environ, "DASK_VIRNUC__MAX_TOKENS": "77"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert done.stdout == "77\n"


def test_flags_beat_the_environment_and_the_file(preset, monkeypatch):
    monkeypatch.setenv("DASK_VIRNUC__MODEL", "from-environment")
    flags = {"model": "from-flag", "cluster.workers": 7, "cluster.threads": None}
    file = preset("virnuc: {model: from-file, cluster: {workers: 3, threads: 2}}")
    settings = load_settings(file, flags)
    assert (settings.model, settings.cluster.workers) == ("from-flag", 7)
    assert settings.cluster.threads == 2  # a flag of None was not given


def test_false_and_zero_are_given_flags():
    settings = load_settings(flags={"features": False, "cluster.dashboard_port": 0})
    assert not settings.features
    assert settings.cluster.dashboard_port == 0


def test_dasks_own_configuration_counts(preset):
    with dask.config.set({"virnuc.model": "from-dask", "virnuc.cluster.kind": "none"}):
        assert load_settings().model == "from-dask"
        settings = load_settings(preset("virnuc: {model: from-file}"))
    assert (settings.model, settings.cluster.kind) == ("from-file", "none")


def test_dashes_and_underscores_are_the_same(preset):
    settings = load_settings(preset("virnuc: {max-tokens: 7, cluster: {worker-timeout-s: 1}}"))
    assert (settings.max_tokens, settings.cluster.worker_timeout_s) == (7, 1.0)


def test_a_dash_in_the_file_does_not_hide_an_underscore_in_the_environment(preset, monkeypatch):
    monkeypatch.setenv("DASK_VIRNUC__MAX_TOKENS", "9")
    assert load_settings(preset("virnuc: {max-tokens: 7}")).max_tokens == 9


@pytest.mark.parametrize(
    ("flag", "known"), [("modle", "model"), ("cluster.wrokers", "workers"), ("memory.x", "gpu_")]
)
def test_an_unknown_setting_is_refused_and_the_known_ones_named(flag, known):
    with pytest.raises(BadSettingError, match=rf"unknown setting virnuc\.{flag}; .*{known}"):
        load_settings(flags={flag: 1})


def test_the_nearest_name_is_told():
    with pytest.raises(BadSettingError, match=r"virnuc\.cluster\.wrokers; did you mean workers\?"):
        load_settings(flags={"cluster.wrokers": 1})


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("length", 2, "length must be a whole number of at least 3 or null, not 2."),
        ("precision", "fp7", "precision must be one of auto, fp32, bf16, fp16, fp8, not 'fp7'."),
        ("cluster.worker_timeout_s", "1", "cluster.worker_timeout_s must be a number above 0"),
        ("cluster.worker_timeout_s", float("nan"), "must be a number above 0 or null, not nan."),
        ("memory.gpu_fraction", 2, "memory.gpu_fraction must be a number above 0 and of at most 1"),
        ("features", "no", "virnuc.features must be true or false, not 'no'."),
        ("length", "x" * 10_000, "not [...]"),
        ("cluster.tls_key", "key.pem", "virnuc.cluster needs tls_ca_file, tls_cert as well"),
    ],
)
def test_a_refusal_tells_all_that_a_setting_may_be(flag, value, message):
    with pytest.raises(BadSettingError, match=re.escape(message)):
        load_settings(flags={flag: value})


def test_settings_made_in_python_are_checked_as_well():
    for made, message in (
        (lambda: Settings(length="500"), r"^Settings\.length must be a whole number"),
        (lambda: ClusterSettings(host="node7"), r"^ClusterSettings\.host must be an IPv4"),
        (lambda: ClusterSettings(wrokers=2), r"ClusterSettings\.wrokers; did you mean workers"),
        (lambda: replace(Settings(), max_tokens=0), r"^Settings\.max_tokens must be"),
    ):
        with pytest.raises(BadSettingError, match=message):
            made()


def test_every_setting_is_described_in_the_schema():
    schema = TypeAdapter(Settings).json_schema()
    groups = {"Settings": schema} | schema["$defs"]
    assert groups.keys() == {"Settings", "ClusterSettings", "JobSettings", "MemorySettings"}
    for name, group in groups.items():
        assert group["description"]
        for setting, said in group["properties"].items():
            assert "$ref" in said or said.get("description"), f"{name}.{setting}"


def test_an_unknown_setting_in_a_file_or_the_environment_is_refused(preset, monkeypatch):
    with pytest.raises(BadSettingError, match=r"virnuc\.lenght"):
        load_settings(preset("virnuc: {lenght: 500}"))
    monkeypatch.setenv("DASK_VIRNUC__MODLE", "mini")
    with pytest.raises(BadSettingError, match=r"virnuc\.modle"):
        load_settings(preset("virnuc: {}"))


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("model", 5),
        ("length", "500"),
        ("length", 500.0),
        ("length", True),
        ("fdr", True),
        ("fdr", "low"),
        ("features", 1),
        ("features", "no"),
        ("cluster", 3),
        ("cluster.workers", "two"),
        ("cluster.worker_timeout_s", True),
        ("memory.gpu_fraction", "0.9"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(flag, value):
    with pytest.raises(BadSettingError, match=rf"virnuc\.{flag} must .*, not {value!r}"):
        load_settings(flags={flag: value})


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("precision", "fp7"),
        ("length", 2),
        ("max_tokens", 0),
        ("partition_chunks", 0),
        ("cluster.kind", "kubernetes"),
        ("cluster.device", "tpu"),
        ("cluster.workers", 0),
        ("cluster.threads", -1),
        ("cluster.partitions_in_flight", 0),
        ("memory.gpu_fraction", 0.0),
        ("memory.gpu_fraction", 1.5),
        ("memory.clear_cache_every", 0),
        ("cluster.host", "node7"),
    ],
)
def test_a_value_that_cannot_be_is_refused(flag, value):
    with pytest.raises(BadSettingError, match=rf"{flag} must be .* not .*{value}"):
        load_settings(flags={flag: value})


def test_a_whole_number_serves_where_a_fraction_is_wanted():
    timeout = load_settings(flags={"cluster.worker_timeout_s": 3}).cluster.worker_timeout_s
    assert (timeout, type(timeout)) == (3.0, float)


@pytest.mark.parametrize("fdr", [0, 1, -0.1, 1.5, float("nan"), float("inf")])
def test_a_false_discovery_rate_lies_between_0_and_1(fdr):
    with pytest.raises(BadSettingError, match=r"virnuc\.fdr must be a number above 0 and below 1"):
        load_settings(flags={"fdr": fdr})
    assert load_settings(flags={"fdr": 0.05}).fdr == 0.05
    assert Settings().fdr is None


def test_settings_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        Settings().model = "other"


@pytest.mark.parametrize("text", ["", "virnuc:", "virnuc: {}", "# nothing\n"])
def test_an_empty_file_changes_nothing(preset, text):
    assert load_settings(preset(text)) == Settings()


@pytest.mark.parametrize(
    "text",
    [
        "distributed: {}",
        "virnuc: {}\nmodel: mini",
        "model: mini",
        "- virnuc",
        "virnuc: mini",
        "virnuc: [1]",
        "virnuc: {model: [unclosed",
        "virnuc: !!python/object/apply:os.getcwd []",
        "!!python/object/apply:os.mkdir [made_by_yaml]",
    ],
)
def test_a_file_that_is_no_preset_is_refused_naming_it(preset, text, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    path = preset(text)
    with pytest.raises(BadSettingError, match="preset"):
        load_settings(path)
    assert list(tmp_path.iterdir()) == [path]  # nothing in it was run


def test_a_file_that_is_no_text_is_refused(preset):
    path = preset("")
    path.write_bytes(b"virnuc: \xff\xfe")
    with pytest.raises(BadSettingError, match="not a YAML file"):
        load_settings(path)


def test_a_file_that_cannot_be_read_is_bad_input(tmp_path):
    for path in (tmp_path / "missing.yaml", tmp_path):
        with pytest.raises(BadInputError, match=str(path)):
            load_settings(path)


def test_there_are_presets():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} >= {
        "laptop",
        "one-gpu",
        "multi-gpu",
        "parity",
    }


# That of pretrain is another kind: tests/lab/test_recipe.py.
PRESETS = sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "mini.yaml"})


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_what_it_says_and_differs_from_the_defaults(path):
    stated = yaml.safe_load(path.read_text(encoding="utf-8"))["virnuc"]
    settings = asdict(load_settings(path))
    assert dask.config.merge(asdict(Settings()), stated) == settings
    assert settings != asdict(Settings())
