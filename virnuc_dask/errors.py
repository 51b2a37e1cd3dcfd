"""The error tree. Every message names the thing, the place and the next step.

Only ``cli.py`` knows exit codes; everything else raises one of these.
"""


def harmless(text: str) -> str:
    """``text`` as a terminal may show it: what would move its cursor or hide letters is spelt out.

    Names in messages can come from files of strangers.
    """
    return "".join(c if c.isprintable() or c in "\n\t\xa0" else ascii(c)[1:-1] for c in text)


class VirnucError(Exception):
    """Anything the user can do something about."""

    def __init__(self, message: str = "") -> None:
        super().__init__(harmless(message))


class UsageError(VirnucError):
    """The command does not make sense as given: a setting, an output folder."""


class BadSettingError(UsageError):
    """A setting is unknown or has a value it cannot have."""


class OutputExistsError(UsageError):
    """The output folder is there already and neither ``--resume`` nor ``--force`` was given."""


class BadOutputError(UsageError):
    """An output file or folder cannot be made or written."""


class OutputInUseError(UsageError):
    """Another run holds the output folder."""


class PlanChangedError(UsageError):
    """``--resume`` was asked for, but the input, the settings or the weights are others now."""


class BadInputError(VirnucError):
    """An input file is missing, unreadable or not what it should be."""


class BadTableError(VirnucError):
    """A table of the run folder is missing, damaged or belongs to another plan."""


class ModelSetError(VirnucError):
    """A model set or a checkpoint is missing, damaged or refused."""


class NoClusterError(VirnucError):
    """No cluster, or no worker, could be had."""


class WorkerRefusedError(NoClusterError):
    """A worker that can compute nothing was given a task: ``address`` tells which, ``why`` why."""

    def __init__(self, why: VirnucError, address: str) -> None:
        super().__init__(str(why))
        self.why = why
        self.address = address

    def __reduce__(self) -> tuple[type, tuple[VirnucError, str]]:
        # An exception travels with its message alone.
        return type(self), (self.why, self.address)


class CannotWriteError(VirnucError):
    """The disk is full, or the output folder cannot be written."""


class LostRowsError(VirnucError):
    """Counts do not add up: something went in and did not come out."""
