"""Every setting once, with its default, its limits and what it is for.

Settings live in Dask's configuration under ``virnuc:``, so ``~/.config/dask/*.yaml``,
``DASK_VIRNUC__…`` and a ``--config`` file all work as people know them. A flag beats the
environment, the environment beats the file, the file beats the defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, TypeVar

import dask.config
import dask.system
import yaml
from pydantic import AfterValidator, Field

from virnuc_dask.checks import Section, build, checked, one_of, setting
from virnuc_dask.errors import BadInputError, BadSettingError

NAMESPACE = "virnuc"
Group = TypeVar("Group")
GENE_CALLERS = ("pyrodigal-gv", "fast")
FORMATS = ("legacy", "genomad")
PREFIX = re.compile(r"\w[\w.+=@-]{0,99}")
BATCH_SYSTEMS = ("slurm", "pbs", "sge", "lsf", "htcondor", "oar", "moab")
CLUSTERS = ("auto", "none", "cpu", "cuda", *BATCH_SYSTEMS)
_WORKER_TIMEOUT_S, _JOB_TIMEOUT_S = 120.0, 3600.0  # queues are long


def cores() -> int:
    """Cores that this process may use: its container's or its batch job's share of the machine."""
    return int(dask.system.CPU_COUNT)


def _address(host: str) -> str:
    try:
        return str(IPv4Address(host))
    except ValueError:
        raise ValueError(f"must be an IPv4 address of this machine, not {host!r}") from None


def _kind(kind: str) -> str:
    if kind in CLUSTERS or kind.partition(":")[0] in BATCH_SYSTEMS:
        return kind
    raise ValueError(f"must be one of {', '.join(CLUSTERS)}, not {kind!r}")


def _prefix(prefix: str) -> str:
    if PREFIX.fullmatch(prefix):
        return prefix
    raise ValueError(f"must be letters, digits and _.+=@-, a letter or digit first, not {prefix!r}")


@checked
class JobSettings(Section):
    """Jobs of a batch system. What is not set comes from its section of Dask's jobqueue.yaml."""

    number: Annotated[int, Field(ge=1)] | Annotated[str, one_of("auto")] = setting(
        1, "Jobs to submit; auto: as many as there is work for."
    )
    at_most: int = setting(10, "Jobs, where their number is auto.", ge=1)
    queue: str | None = setting(None, "Queue, or partition.")
    account: str | None = setting(None, "What the time is charged to.")
    walltime: str | None = setting(None, "Of each job, in the batch system's own notation.")
    memory: str | None = setting(None, "Of each job; default: the section's, else 16GB.")
    cores: int | None = setting(None, "Of each job; default: the section's, else 4.", ge=1)
    gpus: int = setting(0, "Of each job, with a worker on each.", ge=0)
    setup: tuple[str, ...] = setting((), "Lines of shell before the worker.")
    directives: tuple[str, ...] = setting((), "Further ones of the job script, without #SBATCH.")
    interface: str | None = setting(None, "Network of scheduler and workers, such as ib0.")
    tls: bool = setting(True, "Temporary certificates: no other user reaches the workers.")
    poll_s: float = setting(10.0, "Between two questions to the batch system.", gt=0)


@checked
class ClusterSettings(Section):
    """Where the work is done."""

    kind: Annotated[str, AfterValidator(_kind)] = setting(
        "auto",
        f"Workers: {', '.join(CLUSTERS)}; none: no others. slurm:gpu takes the section gpu of "
        "Dask's jobqueue.yaml.",
    )
    scheduler: str | None = setting(None, "Address of a cluster that is already running.")
    scheduler_file: str | None = setting(None, "The file in which it wrote its address.")
    tls_ca_file: str | None = setting(None, "Certificate authority of a protected cluster.")
    tls_cert: str | None = setting(None, "Own certificate, for a protected cluster.")
    tls_key: str | None = setting(None, "Its private key.")
    workers: int | None = setting(
        None, "Default: one per GPU, or what cores and memory allow.", ge=1
    )
    threads: int | None = setting(
        None, "Torch threads of a worker; default: its share of the cores.", ge=1
    )
    device: Annotated[str, one_of("auto", "cpu", "cuda")] = setting(
        "auto", "What workers compute on; auto: a GPU where there is one."
    )
    worker_timeout_s: float | None = setting(
        None, "How long to wait for the first worker; default: 120, for jobs 3600.", gt=0
    )
    scheduler_timeout_s: float = setting(10.0, "How long to try to reach a running cluster.", gt=0)
    host: Annotated[str, AfterValidator(_address)] = setting(
        "127.0.0.1", "IPv4 address on which a cluster that we start listens."
    )
    dashboard_port: int = setting(8787, "0: any free port.", ge=0)
    partitions_in_flight: int = setting(3, "Per worker, submitted.", ge=1)
    partitions_at_once: int | None = setting(
        None,
        "Per worker, in work; one of them computes. Default: 1, on a GPU 3, and 16 where it holds "
        "one encoder at a time. On a cluster that is already running: the threads of its workers.",
        ge=1,
    )
    jobs: JobSettings = Field(default_factory=JobSettings)

    def __post_init__(self) -> None:
        tls = {name: getattr(self, name) for name in ("tls_ca_file", "tls_cert", "tls_key")}
        missing = [name for name, value in tls.items() if value is None]
        if missing and len(missing) < len(tls):
            raise ValueError(f"needs {', '.join(missing)} as well, for TLS")

    @property
    def batch_system(self) -> str | None:
        """The batch system whose jobs the workers are; None where they are no jobs."""
        system = self.kind.partition(":")[0]
        return system if system in BATCH_SYSTEMS else None

    @property
    def patience_s(self) -> float:
        """How long to wait for the first worker, and for another where all are gone."""
        if self.worker_timeout_s is not None:
            return self.worker_timeout_s
        return _JOB_TIMEOUT_S if self.batch_system else _WORKER_TIMEOUT_S


@checked
class MemorySettings(Section):
    """How a worker uses its GPU's memory. Without a GPU only ``residency`` applies, if set."""

    gpu_fraction: float = setting(0.9, "Of the GPU's memory that torch may take.", gt=0, le=1)
    clear_cache_every: int = setting(
        50, "Partitions between two releases of cached GPU memory.", ge=1
    )
    residency: Annotated[str, one_of("auto", "together", "in_turn")] = setting(
        "auto", "How encoders are in memory; auto: together if they fit."
    )


@checked
class Settings(Section):
    """All settings of a run."""

    model: str = setting("mini", "Model set: an embedded one, or a folder.")
    length: int | None = setting(None, "Chunk length in nt; default: the model set's own.", ge=3)
    precision: Annotated[str, one_of("auto", "fp32", "bf16", "fp16", "fp8")] = setting(
        "auto", "auto: the fastest that device and encoders have, but never fp8."
    )
    max_tokens: int | None = setting(
        None, "Tokens a batch; default: what cache or GPU memory holds.", ge=1
    )
    compile: bool = setting(False, "GPU: fuse what lies between matrix products; for long runs.")
    partition_chunks: int | None = setting(
        None, "Chunks of one task, one file a table; default: some seconds of work.", ge=1
    )
    partition_nt: int | None = setting(
        None,
        "The same in nucleotides, which also ends a partition of a set that reads genes.",
        ge=1,
    )
    gene_caller: Annotated[str, one_of(*GENE_CALLERS)] | None = setting(
        None, "Default: the model set's own."
    )
    persistent_models: bool = setting(True, "False: load and release for every partition.")
    features: bool = setting(True, "Keep the feature tables.")
    features_dtype: Annotated[str, one_of("float32", "float16")] = setting(
        "float32", "float16: half as large, scores from rounded values."
    )
    fdr: float | None = setting(
        None, "Call records up to this q-value; default: by their probability.", gt=0, lt=1
    )
    report: bool = setting(True, "Write report.html, a page of the finished run.")
    prefix: Annotated[str, AfterValidator(_prefix)] | None = setting(
        None, "Before the names of result files: NAME.contigs.tsv."
    )
    formats: tuple[Annotated[str, one_of(*FORMATS)], ...] = setting(
        (),
        "Of other tools. legacy: max_score_0 and max_score_1 in prediction_results_highestscore."
        "csv; genomad: virus_summary.tsv.",
    )
    cluster: ClusterSettings = Field(default_factory=ClusterSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)

    @property
    def mode(self) -> str:
        """How long a model set stays loaded, as the log names it."""
        return "persistent" if self.persistent_models else "per_partition"


def load_settings(
    file: Path | str | None = None, flags: Mapping[str, Any] | None = None
) -> Settings:
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
        layers += [read_preset(Path(file)), dask.config.collect_env().get(NAMESPACE)]
    given: dict[str, Any] = {}
    dask.config.set({k: v for k, v in (flags or {}).items() if v is not None}, config=given)
    layers = [_section(layer) for layer in (*layers, given)]
    return settings_of(Settings, dask.config.merge(*map(_underscored, layers)), NAMESPACE)


def settings_of(group: type[Group], values: Mapping[str, Any], where: str) -> Group:
    """Build a `Section`; `BadSettingError` names what is refused, below ``where``."""
    try:
        return build(group, values, where)
    except ValueError as error:
        raise BadSettingError(f"{error}.") from error


class _PlainLoader(yaml.SafeLoader):
    """Plain values only: no tags, and no aliases, by which ten lines can stand for a billion."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not for settings; write the values out")
        return super().compose_node(parent, index)


def read_preset(file: Path, key: str = NAMESPACE) -> Mapping[str, Any]:
    """The settings under ``key``, the only key of a YAML file.

    `BadInputError` if the file cannot be read, `BadSettingError` if it holds something else.
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
    if values is not None and not isinstance(values, Mapping):
        raise BadSettingError(f"{where} must hold settings, not {values!r}.")
    return values or {}


def _underscored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(key).replace("-", "_"): _underscored(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
    }
