"""How a classifier is trained: every option once, with its default."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from virnuc_dask.errors import BadSettingError
from virnuc_dask.lab.fitting.fit_classifier import ClassifierRecipe
from virnuc_dask.lab.fitting.groups import PARTS


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How to train; `Settings` say where to compute."""

    name: str | None = None  # default: the new folder's name
    shares: tuple[float, ...] = (0.8, 0.1, 0.1)  # of training, validation and test
    groups: Path | None = None  # table of record id and group
    keep_work: bool = False
    recipe: ClassifierRecipe = field(default_factory=ClassifierRecipe)

    def __post_init__(self) -> None:
        right = len(self.shares) == len(PARTS) and all(share > 0 for share in self.shares)
        if not right or abs(sum(self.shares) - 1) > 1e-6:
            raise BadSettingError(
                "split must be three shares that sum to 100, of training, validation and test, "
                "such as 80/10/10."
            )


def parse_options(*, split: str, **given: Any) -> TrainingOptions:
    """`TrainingOptions` from what a command line gives; None leaves a default.

    ``split`` is ``80/10/10``: percent of training, validation and test; what else is ``given`` are
    fields of `TrainingOptions` and of `ClassifierRecipe`.

    Raises
    ------
    BadSettingError
        If a value cannot be.
    """
    try:
        shares = tuple(float(share) / 100 for share in split.split("/"))
    except ValueError:
        shares = ()
    given = {name: value for name, value in given.items() if value is not None}
    names = given.keys() & {setting.name for setting in fields(ClassifierRecipe)}
    recipe = ClassifierRecipe(**{name: given.pop(name) for name in names})
    return TrainingOptions(shares=shares, recipe=recipe, **given)
