"""What may be said about searches by proxies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.errors import ConfigError

__all__ = ["ProxySearchOptions"]


@dataclass(frozen=True)
class ProxySearchOptions:
    """How proxies are searched by.

    Attributes:
        costs: Cost models, each `[LABEL=]SPEC`.
        against: The cost that is looked up at the end.
        budgets: How many BitOPs budgets, evenly between the smallest and the largest network.
        max_evaluations: Designs of each search.
        population: Designs a generation.
        options: Options of cost models by label or name.
        freeze: Genes that keep one value.
        seed: Of every search.

    Raises:
        ConfigError: a number makes no sense.
    """

    costs: Sequence[str] = ("embedding_distortion",)
    against: str = "iou"
    budgets: int = 5
    max_evaluations: int = 360
    population: int = 40
    options: Mapping[str, Mapping[str, Any]] | None = None
    freeze: Mapping[str, Any] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.budgets, self.max_evaluations) < 1:
            raise ConfigError(
                f"budgets={self.budgets}, max_evaluations={self.max_evaluations}; expected 1 or "
                "more of each"
            )
