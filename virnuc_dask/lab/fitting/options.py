"""How a classifier is trained: every option once, with its default."""

from __future__ import annotations

from pathlib import Path

from virnuc_dask.checks import Section, checked, setting

PARTS = ("training", "validation", "test")
TRAINING, VALIDATION, TEST = range(len(PARTS))


@checked
class ClassifierRecipe(Section):
    """Settings of a training."""

    hidden: int = setting(512, "Width of the hidden layer.", ge=1)
    dropout: float = 0.5
    learning_rate: float = 3e-4
    weight_decay: float = 1e-2
    batch: int = setting(256, "Frames.", ge=2)
    epochs: int = setting(100, "The most there can be.", ge=1)
    patience: int = setting(8, "Epochs without a better validation before it stops.", ge=1)
    seed: int = setting(1, "Of all that is drawn.", ge=0)


@checked
class TrainingOptions(ClassifierRecipe):
    """How to train; `Settings` say where to compute."""

    name: str | None = setting(None, "Default: the new folder's name.")
    split: str = setting("80/10/10", "Percent of training, validation and test.")
    groups: Path | None = setting(None, "Table of record id and group.")
    keep_work: bool = False

    def __post_init__(self) -> None:
        shares = self.shares
        if len(shares) != len(PARTS) or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
            raise ValueError(
                "split must be three shares that sum to 100, of training, validation and test, "
                "such as 80/10/10"
            )

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the parts; they sum to 1."""
        try:
            return tuple(float(share) / 100 for share in self.split.split("/"))
        except ValueError:
            return ()
