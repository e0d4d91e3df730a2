"""How a workflow tells its caller where it stands, without printing."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Silent", "Watch"]


class Watch(Protocol):
    """What a caller may show while a workflow runs.

    `begin` opens a named stage with its number of steps (None where it is not known), `advance`
    says how many are done, with figures worth showing (`hypervolume`, `evaluations/s`), `remark`
    passes on a sentence that the user should read.
    """

    def begin(self, stage: str, total: int | None) -> None: ...

    def advance(self, done: int, **figures: float) -> None: ...

    def remark(self, sentence: str) -> None: ...


class Silent:
    """A watch that shows nothing."""

    def begin(self, stage: str, total: int | None) -> None:
        """Ignore the stage."""

    def advance(self, done: int, **figures: float) -> None:
        """Ignore the step."""

    def remark(self, sentence: str) -> None:
        """Ignore the sentence."""
