"""Words for errors: nearest names, globs over gene names, and lists of problems."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from hwnas.errors import SpaceError

_SHOWN = 8


def shown(values: Iterable[object]) -> str:
    """Write values as a short comma-separated list; beyond eight, the rest is counted."""
    items = [str(v) for v in values]
    if len(items) <= _SHOWN:
        return ", ".join(items)
    return f"{', '.join(items[:_SHOWN])} and {len(items) - _SHOWN} more"


def nearest(name: str, names: Sequence[str]) -> str:
    """Return "; nearest: a, b", or the first names when nothing is near."""
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f"; nearest: {', '.join(close)}" if close else f"; known: {shown(names)}"


def gathered(title: str, problems: Sequence[str]) -> str:
    """Write one message out of all problems: a title with their number, then one line for each."""
    number = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return "\n  ".join([f"{title}: {number}", *problems])


class Problems(SpaceError):
    """Several things wrong with a declaration, kept apart so that they can be listed together."""

    def __init__(self, title: str, lines: Sequence[str]) -> None:
        super().__init__(gathered(title, lines))
        self.title = title
        self.lines = tuple(lines)

    def __reduce__(self) -> tuple[type[Problems], tuple[str, tuple[str, ...]]]:
        return Problems, (self.title, self.lines)  # crosses to other processes


def is_glob(pattern: str) -> bool:
    """Say whether the pattern has a wildcard (`*`, `?` or `[`)."""
    return any(c in pattern for c in "*?[")


def matching(pattern: str, names: Sequence[str], *, where: str) -> list[str]:
    """Return the names that a pattern selects, in their order.

    A wildcard stays within one part of a dotted name: `blocks.*.heads` selects `blocks.3.heads`
    and not `blocks.3.attention.heads`.

    Raises:
        SpaceError: no name matches; `where` says who asked.
    """
    parts = pattern.split(".")
    found = [n for n in names if _fits(n.split("."), parts)]
    if not found:
        raise SpaceError(f"{where}: no gene matches '{pattern}'{nearest(pattern, names)}")
    return found


def _fits(name: list[str], pattern: list[str]) -> bool:
    return len(name) == len(pattern) and all(map(fnmatchcase, name, pattern))
