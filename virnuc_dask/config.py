"""Every setting once, with its default.

Settings live in Dask's configuration under ``virnuc:``, so ``~/.config/dask/*.yaml``,
``DASK_VIRNUC__…`` and a ``--config`` file all work as people know them. A flag beats the
environment, the environment beats the file, the file beats the defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from ipaddress import IPv4Address
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

import dask.config
import dask.system
import yaml

from virnuc_dask.errors import BadInputError, BadSettingError

NAMESPACE = "virnuc"
GENE_CALLERS = ("pyrodigal-gv", "fast")


def cores() -> int:
    """Cores that this process may use: its container's or its batch job's share of the machine."""
    return int(dask.system.CPU_COUNT)


@dataclass(frozen=True, slots=True)
class Section:
    """A group of settings that refuses what it does not know."""

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str = NAMESPACE) -> Self:
        """Build from plain values.

        Raises
        ------
        BadSettingError
            Naming the first setting that is unknown or has a value of the wrong kind.
        """
        hints = get_type_hints(cls)
        known = {f.name for f in fields(cls) if f.init}
        built = {}
        for key, value in values.items():
            name = key.replace("-", "_")
            if name not in known:
                raise BadSettingError(
                    f"unknown setting {where}.{key}; known: {', '.join(sorted(known))}."
                )
            built[name] = _checked(hints[name], value, f"{where}.{name}")
        return cls(**built)


@dataclass(frozen=True, slots=True)
class ClusterSettings(Section):
    """Where the work is done."""

    kind: str = "auto"  # auto, none, cpu, cuda
    scheduler: str | None = None  # address of a cluster that is already running
    scheduler_file: str | None = None
    tls_ca_file: str | None = None  # these three for a cluster that asks for certificates
    tls_cert: str | None = None
    tls_key: str | None = None
    workers: int | None = None  # default: one per GPU, or what cores and memory allow
    threads: int | None = None  # torch threads of a worker; default: its share of the cores
    device: str = "auto"  # auto, cpu, cuda
    worker_timeout_s: float = 120.0  # how long to wait for the first worker
    scheduler_timeout_s: float = 10.0  # how long to knock at a cluster that is already running
    host: str = "127.0.0.1"  # IPv4 address on which a cluster that we start listens
    dashboard_port: int = 8787  # 0: any free port
    partitions_in_flight: int = 3  # per worker, submitted
    # Per worker, in work; one of them computes. Default: 1, on a GPU 3, and 16 where it holds
    # one encoder at a time. On a cluster that is already running: the threads of its workers.
    partitions_at_once: int | None = None

    def __post_init__(self) -> None:
        one_of("cluster.kind", self.kind, ("auto", "none", "cpu", "cuda"))
        one_of("cluster.device", self.device, ("auto", "cpu", "cuda"))
        tls = {name: getattr(self, name) for name in ("tls_ca_file", "tls_cert", "tls_key")}
        missing = [f"cluster.{name}" for name, value in tls.items() if value is None]
        if missing and len(missing) < len(tls):
            raise BadSettingError(f"TLS needs {', '.join(missing)} as well.")
        try:
            IPv4Address(self.host)
        except ValueError as error:
            raise BadSettingError(
                f"cluster.host must be an IPv4 address of this machine, not {self.host!r}."
            ) from error
        at_least("cluster.workers", self.workers, 1)
        at_least("cluster.threads", self.threads, 1)
        at_least("cluster.partitions_in_flight", self.partitions_in_flight, 1)
        at_least("cluster.partitions_at_once", self.partitions_at_once, 1)
        at_least("cluster.dashboard_port", self.dashboard_port, 0)
        for name in ("worker_timeout_s", "scheduler_timeout_s"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise BadSettingError(f"cluster.{name} must be seconds, not {value}.")


@dataclass(frozen=True, slots=True)
class MemorySettings(Section):
    """How a worker uses its GPU's memory. Without a GPU only ``residency`` applies, if set."""

    gpu_fraction: float = 0.9  # of the GPU's memory that torch may take
    clear_cache_every: int = 50  # partitions between two releases of cached GPU memory
    residency: str = "auto"  # encoders in memory: together, in_turn; auto: together if they fit

    def __post_init__(self) -> None:
        one_of("memory.residency", self.residency, ("auto", "together", "in_turn"))
        if not 0 < self.gpu_fraction <= 1:
            raise BadSettingError(f"memory.gpu_fraction must be in (0, 1], not {self.gpu_fraction}")
        at_least("memory.clear_cache_every", self.clear_cache_every, 1)


@dataclass(frozen=True, slots=True)
class Settings(Section):
    """All settings of a run."""

    model: str = "mini"
    length: int | None = None  # chunk length in nt; default: the model set's own
    # fp32, bf16, fp16, fp8; auto: the fastest that device and encoders have, but never fp8
    precision: str = "auto"
    max_tokens: int | None = None  # tokens a batch; default: what cache or GPU memory holds
    compile: bool = False  # GPU: fuse what lies between matrix products; for long runs
    partition_chunks: int | None = None  # one task, one file a table; default: some seconds of work
    # The same in nucleotides, which also ends a partition of a set that reads genes.
    partition_nt: int | None = None
    gene_caller: str | None = None  # pyrodigal-gv, fast; default: the model set's own
    persistent_models: bool = True  # false: load and release for every partition
    features: bool = True  # keep the feature tables
    features_dtype: str = "float32"  # or float16: half as large, scores from rounded values
    fdr: float | None = None  # call records up to this q-value; default: by their probability
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    memory: MemorySettings = field(default_factory=MemorySettings)

    def __post_init__(self) -> None:
        one_of("precision", self.precision, ("auto", "fp32", "bf16", "fp16", "fp8"))
        one_of("features_dtype", self.features_dtype, ("float32", "float16"))
        if self.gene_caller is not None:
            one_of("gene_caller", self.gene_caller, GENE_CALLERS)
        if self.fdr is not None and not 0 < self.fdr < 1:
            raise BadSettingError(f"fdr must lie between 0 and 1, not {self.fdr}.")
        at_least("length", self.length, 3)
        at_least("max_tokens", self.max_tokens, 1)
        at_least("partition_chunks", self.partition_chunks, 1)
        at_least("partition_nt", self.partition_nt, 1)


def load_settings(file: Path | None = None, flags: Mapping[str, Any] | None = None) -> Settings:
    """Settings from Dask's configuration, a preset, the environment and flags.

    Parameters
    ----------
    file
        A YAML file with one key, ``virnuc``.
    flags
        Dotted names to values (``{"cluster.workers": 2}``); None means not given.

    Raises
    ------
    BadSettingError
        If a setting is unknown or has a value it cannot have.
    BadInputError
        If the file cannot be read.
    """
    layers = [dask.config.get(NAMESPACE, None)]
    if file is not None:
        layers += [read_preset(file), dask.config.collect_env().get(NAMESPACE)]
    layers = [_section(layer) for layer in layers]
    layers.append(_nested({k: v for k, v in (flags or {}).items() if v is not None}))
    return Settings.of(dask.config.merge(*map(_underscored, layers)))


class _PlainLoader(yaml.SafeLoader):
    """Plain values only: no tags, and no aliases, by which ten lines can stand for a billion."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not for settings; write the values out")
        return super().compose_node(parent, index)


def read_preset(file: Path, key: str = NAMESPACE) -> Mapping[str, Any]:
    """The settings under ``key``, the only key of a YAML file.

    Raises
    ------
    BadInputError, BadSettingError
        If the file cannot be read, or holds something else.
    """
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _PlainLoader) or {}
    except OSError as error:
        raise BadInputError(f"{file}: cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise BadSettingError(f"{file}: not a YAML file: {error}") from error
    if not isinstance(content, dict) or set(content) - {key}:
        raise BadSettingError(f"{file}: must have one key, `{key}:`, holding the settings.")
    return _section(content.get(key), f"{file}: {key}")


def _section(values: Any, where: str = NAMESPACE) -> Mapping[str, Any]:
    """The settings of a layer; none is an empty one."""
    if values is not None and not isinstance(values, Mapping):
        raise BadSettingError(f"{where} must hold settings, not {values!r}.")
    return values or {}


def _underscored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(key).replace("-", "_"): _underscored(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
    }


def _nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in dotted.items():
        *sections, key = name.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[key] = value
    return nested


def _checked(kind: Any, value: Any, where: str) -> Any:
    """``value`` if it is of ``kind``, an int where a float is wanted, a section built."""
    if is_dataclass(kind) and isinstance(kind, type) and issubclass(kind, Section):
        if not isinstance(value, Mapping):
            raise BadSettingError(f"{where} must hold settings, not {value!r}.")
        return kind.of(value, where)
    if get_origin(kind) is tuple:
        return _listed(get_args(kind)[0], value, where)
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    if float in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) not in kinds:
        names = " or ".join("null" if k is NoneType else k.__name__ for k in kinds)
        raise BadSettingError(f"{where} must be {names}, not {value!r}.")
    return value


def _listed(kind: type, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple) or any(type(item) is not kind for item in value):
        raise BadSettingError(f"{where} must be a list of {kind.__name__}, not {value!r}.")
    return tuple(value)


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a setting that is none of ``choices``."""
    if value not in choices:
        raise BadSettingError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")


def at_least(name: str, value: int | None, least: int) -> None:
    """Refuse a setting below ``least``; None passes."""
    if value is not None and value < least:
        raise BadSettingError(f"{name} must be at least {least}, not {value}.")
