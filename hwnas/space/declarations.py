"""What a search space is written in: ordered and unordered choices, and repeats of them."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from hwnas.space.messages import Problems

Scalar: TypeAlias = str | int | float | bool
Role: TypeAlias = Literal["resolution", "depth", "width", "bits", "other"]

_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_MAX_OPTIONS = 2**15 - 1  # option indexes are kept as int16


@dataclass(frozen=True)
class Choice:
    """One thing that can vary; made by `ordinal` or `choice`.

    `role` says what the choice is about, for reference designs and plots; the algebra of the space
    ignores it.

    Raises:
        SpaceError: the name, the options or the role are not usable; all problems at once.
    """

    name: str
    options: tuple[Scalar, ...]
    ordered: bool
    role: Role = "other"

    def __post_init__(self) -> None:
        problems = [*_name_problems(self.name), *_option_problems(self), *_role_problems(self)]
        if problems:
            raise Problems(f"choice '{self.name}'", problems)


@dataclass(frozen=True)
class Repeat:
    """The same choices for each of several blocks; made by `repeat`.

    `keep_order` lists the indices in the order in which a growing depth takes them in.

    Raises:
        SpaceError: no block, a block named twice, or a keep order that is not a permutation.
    """

    name: str
    indices: tuple[int, ...]
    choices: tuple[Choice | Repeat, ...]
    depth: str | None
    keep_order: tuple[int, ...]

    def __post_init__(self) -> None:
        problems = _name_problems(self.name)
        if not self.indices or len(set(self.indices)) != len(self.indices):
            problems.append(f"indices {list(self.indices)}: expected one or more, all different")
        if any(i < 0 for i in self.indices):
            problems.append(f"indices {list(self.indices)}: expected none below 0")
        if sorted(self.keep_order) != sorted(self.indices):
            wanted = f"expected the indices {list(self.indices)} in some order"
            problems.append(f"keep_order {list(self.keep_order)}: {wanted}")
        if not self.choices:
            problems.append("no choices: expected at least one for each block")
        if problems:
            raise Problems(f"repeat '{self.name}'", problems)


Declaration: TypeAlias = Choice | Repeat


def ordinal(name: str, options: Sequence[Scalar], *, role: Role = "other") -> Choice:
    """Declare an ordered choice; options are listed from the smallest to the largest.

    Numeric options must ascend; names ("small", "large") are taken in the order given.

    Raises:
        SpaceError: the name, the options or the role are not usable.
    """
    return Choice(name, tuple(options), True, role)


def choice(name: str, options: Sequence[Scalar], *, role: Role = "other") -> Choice:
    """Declare an unordered choice among JSON scalars.

    Raises:
        SpaceError: the name, the options or the role are not usable.
    """
    return Choice(name, tuple(options), False, role)


def repeat(
    name: str,
    indices: int | Sequence[int],
    choices: Sequence[Declaration],
    *,
    depth: str | None = None,
    keep_order: Sequence[int] | None = None,
) -> Repeat:
    """Declare the same choices for each of several blocks; their genes are `name.i.choice`.

    `indices` is a count or the physical indexes. With `depth`, the name of an ordered choice whose
    value is k, the first k of `keep_order` (default: `indices` as listed) are active and the genes
    of the others are absent. The name is looked up beside the repeat first, then further out, so a
    repeat may hold a depth and the inner repeat that it rules.

    Raises:
        SpaceError: the indices, the keep order or the choices are not usable.
    """
    listed = tuple(range(indices)) if isinstance(indices, int) else tuple(indices)
    order = listed if keep_order is None else tuple(keep_order)
    return Repeat(name, listed, tuple(choices), depth, order)


def option_key(value: object) -> tuple[bool, object]:
    """Return the key under which an option is found: 8.0 finds 8, and true does not find 1."""
    plain = value.item() if hasattr(value, "item") else value  # numpy scalars
    return isinstance(plain, bool), plain


def _name_problems(name: str) -> list[str]:
    if _NAME.fullmatch(name):
        return []
    return [f"name '{name}': expected letters, digits, _ and -, in parts joined by dots"]


def _option_problems(c: Choice) -> list[str]:
    bad = [o for o in c.options if not _is_scalar(o)]
    if bad:
        return [f"options {bad}: expected strings, finite numbers or booleans"]
    problems = []
    if not 1 <= len(c.options) <= _MAX_OPTIONS:
        problems.append(f"{len(c.options)} options: expected 1 to {_MAX_OPTIONS}")
    if len(set(c.options)) != len(c.options):  # 1, 1.0 and true are one, as they are to ==
        return [*problems, f"options {list(c.options)}: expected each one once"]
    if len({_kind(o) for o in c.options}) > 1 and c.ordered:
        problems.append(f"options {list(c.options)}: ordered options are of one kind")
    elif c.ordered and not _ascends(c.options):
        problems.append(f"options {list(c.options)}: expected from the smallest to the largest")
    return problems


def _role_problems(c: Choice) -> list[str]:
    if c.role not in get_args(Role):
        return [f"role '{c.role}': expected one of {', '.join(get_args(Role))}"]
    if c.role in ("resolution", "bits") and any(_kind(o) != "number" for o in c.options):
        return [f"role '{c.role}' takes numeric options, not {list(c.options)}"]
    return []


def _is_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int)


def _kind(value: Scalar) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def _ascends(options: tuple[Scalar, ...]) -> bool:
    numbers = [o for o in options if not isinstance(o, str)]
    return all(a < b for a, b in itertools.pairwise(numbers))
