"""When failures are too many to go on."""

from __future__ import annotations

from dataclasses import dataclass, field

from hwnas.errors import CostError
from hwnas.space import Archs

__all__ = ["FailurePolicy", "FailureWatch"]


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """A failed architecture is recorded and left out; too many stop the run.

    Too many is: all of the first batch, or at least `least` and more than `share` of all.
    """

    least: int = 10
    share: float = 0.2


@dataclass(slots=True)
class FailureWatch:
    """Counts failures and keeps the first of them for the message."""

    policy: FailurePolicy = field(default_factory=FailurePolicy)
    evaluated: int = 0
    failed: int = 0
    first: str = ""

    def note(self, archs: Archs, messages: tuple[str, ...]) -> None:
        """Count one generation; a message that is not empty is a failure.

        Raises:
            CostError: failures are too many; it names a cost model, an architecture and the cause.
        """
        bad = [i for i, message in enumerate(messages) if message]
        if bad and not self.first:
            self.first = f"architecture {archs[bad[0]].id}: {messages[bad[0]]}"
        whole_first = bool(bad) and self.evaluated == 0 and len(bad) == len(messages)
        self.evaluated += len(messages)
        self.failed += len(bad)
        many = self.failed >= self.policy.least
        if whole_first or (many and self.failed > self.policy.share * self.evaluated):
            raise CostError(
                f"{self.failed} of {self.evaluated} architectures failed; the first: {self.first}. "
                f"A run stops when all of the first generation fail, or at least "
                f"{self.policy.least} and more than {self.policy.share:.0%}; "
                "try the cost model alone with: hwnas costs check SPEC"
            )
