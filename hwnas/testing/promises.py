"""A promise is one thing that a plug-in must keep, with a check that says how it is broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Promise", "broken"]

T = TypeVar("T")


@dataclass(frozen=True)
class Promise(Generic[T]):
    """One promise about a `T`: its name, and a check that yields a sentence for each breach."""

    name: str
    check: Callable[[T], Iterable[str]]

    def broken(self, subject: T) -> list[str]:
        """Return the breaches, each led by the promise's name; what `check` raises is one too."""
        try:
            found = list(self.check(subject))
        except Exception as error:
            found = [f"raises {type(error).__name__}: {error}"]
        return [f"{self.name}: {breach}" for breach in found]


def broken(promises: Iterable[Promise[T]], subject: T) -> list[str]:
    """Return the breaches of all promises, in their order; empty where every one is kept."""
    return [breach for promise in promises for breach in promise.broken(subject)]
