"""From nested declarations to flat genes, and when each gene is active."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hwnas.space.declarations import Choice, Declaration, Repeat, Role, Scalar
from hwnas.space.messages import Problems, nearest


@dataclass(frozen=True)
class Gene:
    """One named choice of the flat space; `conditional` if some depth can leave it out."""

    name: str
    options: tuple[Scalar, ...]
    ordered: bool
    role: Role = "other"
    conditional: bool = False


@dataclass(frozen=True)
class Gate:
    """A condition: the gene named `depth` must have a value above `rank`."""

    depth: str
    rank: int


@dataclass(frozen=True)
class Flat:
    """One flat choice under its full name, with the gates of the repeats around it."""

    name: str
    choice: Choice
    gates: tuple[Gate, ...]


@dataclass(frozen=True)
class _Scope:
    prefix: str = ""
    pending: tuple[tuple[str, str, int], ...] = ()  # (prefix where depth is sought, depth, rank)


def flatten(declarations: Sequence[Declaration]) -> tuple[Flat, ...]:
    """Unroll repeats; names are `repeat.index.choice`, in the order of the declarations.

    Raises:
        SpaceError: a name given twice, a depth that is unknown, unordered, not made of whole
            numbers, or that does not fit its repeat; all problems at once.
    """
    found = list(_walk(declarations, _Scope()))
    choices = {name: choice for name, choice, _ in found}
    problems = [f"gene '{n}' is declared more than once" for n in _twice([n for n, _, _ in found])]
    problems += _depth_problems(declarations, choices)
    if problems:
        raise Problems("declarations", problems)
    return tuple(
        Flat(name, choice, tuple(Gate(_sought(p, d, choices) or d, r) for p, d, r in scope.pending))
        for name, choice, scope in found
    )


def _walk(
    declarations: Sequence[Declaration], scope: _Scope
) -> Iterator[tuple[str, Choice, _Scope]]:
    for declared in declarations:
        if isinstance(declared, Choice):
            yield scope.prefix + declared.name, declared, scope
            continue
        for index in declared.indices:
            yield from _walk(declared.choices, _inner(scope, declared, index))


def _inner(scope: _Scope, declared: Repeat, index: int) -> _Scope:
    pending = scope.pending
    if declared.depth is not None:
        rank = declared.keep_order.index(index)
        pending = (*pending, (scope.prefix, declared.depth, rank))
    return _Scope(f"{scope.prefix}{declared.name}.{index}.", pending)


def _sought(prefix: str, depth: str, choices: dict[str, Choice]) -> str | None:
    """Look for a depth beside its repeat, then further out."""
    parts = prefix.split(".")[:-1]
    for n in range(len(parts), -1, -1):
        name = ".".join([*parts[:n], depth])
        if name in choices:
            return name
    return None


def _twice(names: list[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _depth_problems(declarations: Sequence[Declaration], choices: dict[str, Choice]) -> list[str]:
    problems: dict[str, None] = {}
    for prefix, declared in _repeats(declarations, ""):
        if declared.depth is None:
            continue
        name = _sought(prefix, declared.depth, choices)
        if name is None:
            hint = nearest(declared.depth, list(choices))
            problems[f"repeat '{declared.name}': no depth gene '{declared.depth}'{hint}"] = None
        else:
            problem = _depth_problem(declared, name, choices[name])
            problems.update({problem: None} if problem else {})
    return list(problems)


def _depth_problem(declared: Repeat, name: str, depth: Choice) -> str | None:
    start = f"repeat '{declared.name}': depth '{name}'"
    whole = [o for o in depth.options if isinstance(o, int) and not isinstance(o, bool)]
    if not depth.ordered or len(whole) != len(depth.options) or min(whole) < 0:
        return f"{start} has {list(depth.options)}; expected ordered whole numbers from 0 up"
    if max(whole) > len(declared.indices):
        return f"{start} goes to {max(whole)}, and there are {len(declared.indices)} blocks"
    if max(whole) < len(declared.indices):
        never = list(declared.keep_order[max(whole) :])
        return f"{start} goes to {max(whole)}, so that blocks {never} are never active; drop them"
    return None


def _repeats(declarations: Sequence[Declaration], prefix: str) -> Iterator[tuple[str, Repeat]]:
    for declared in declarations:
        if isinstance(declared, Repeat):
            yield prefix, declared
            for index in declared.indices:
                yield from _repeats(declared.choices, f"{prefix}{declared.name}.{index}.")
