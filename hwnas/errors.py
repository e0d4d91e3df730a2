"""What can go wrong, each with the exit code that the command line documents.

A message has three parts: what came, what was expected, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class HwnasError(Exception):
    """Root of every error that a user can cause; the command line prints it without a traceback."""

    exit_code = 2


class ConfigError(HwnasError):
    """A file or an option is wrong; the message lists every problem found."""


class PluginError(HwnasError):
    """A plug-in cannot be found, loaded or used."""


class SpaceError(HwnasError):
    """A search space is declared wrongly, or lacks what was asked of it (`lower`, `supernet`)."""


class ArchError(HwnasError):
    """An architecture does not belong to its space."""


class CostError(HwnasError):
    """A cost model cannot price an architecture."""


class DataError(HwnasError):
    """Images, masks or splits are missing, unreadable or do not fit together."""


class CheckpointError(HwnasError):
    """A checkpoint is truncated, of another shape, or not what it claims to be."""


class RunError(HwnasError):
    """A run folder exists already, cannot be written, or cannot be resumed."""


class TrainingError(HwnasError):
    """A training run does not get on: its gradients are not finite."""


class ExportError(HwnasError):
    """What was exported does not compute what the supernet does; the message says where."""


class InfeasibleError(HwnasError):
    """No design meets the limits; the message names the best value seen."""

    exit_code = 3


class DeviceError(HwnasError):
    """A device cannot be found, reached or measured."""

    exit_code = 4


class Interrupted(HwnasError):
    """The user stopped the run; its state is saved."""

    exit_code = 130


def problem_lines(problems: Sequence[str], most: int) -> str:
    """The first `most` problems, one an indented line, and how many more there are."""
    lines = [f"  {problem}" for problem in problems[:most]]
    more = len(problems) - most
    return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)
