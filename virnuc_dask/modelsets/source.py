"""Which model set to load, and how: plain settings that travel to workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from virnuc_dask.config import Settings
from virnuc_dask.modelsets.manifest import EMBEDDED, ModelSetInfo, find


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model set to load. ``name`` is an embedded one's, or a folder every worker can read."""

    name: str
    checksum: str
    device: str = "auto"
    precision: str = "fp32"
    max_tokens: int | None = None
    compile: bool = False
    threads: int | None = None
    gpu_fraction: float = 0.9
    residency: str = "auto"
    encoders: bool = True  # false: the classifier alone
    instructions: str | None = None  # that choose a CPU's kernels; None: the machine's own
    gene_caller: str | None = None  # None: the model set's own

    @classmethod
    def of(
        cls, name: str, info: ModelSetInfo, *, device: str = "auto", precision: str = "fp32"
    ) -> Self:
        """The model set called ``name`` with everything else at its default."""
        return cls(located(name), info.checksum, device=device, precision=precision)

    @classmethod
    def from_settings(
        cls, settings: Settings, info: ModelSetInfo, *, encoders: bool = True
    ) -> Self:
        """The model set that ``settings`` ask for."""
        return cls(
            name=located(settings.model),
            checksum=info.checksum,
            device=settings.cluster.device,
            precision=settings.precision,
            max_tokens=settings.max_tokens,
            compile=settings.compile,
            threads=settings.cluster.threads,
            gpu_fraction=settings.memory.gpu_fraction,
            residency=settings.memory.residency,
            encoders=encoders,
            gene_caller=settings.gene_caller,
        )


def located(name: str) -> str:
    """An embedded set's name, or the folder of any other, for whoever works elsewhere."""
    return name if name in EMBEDDED else str(find(name))
