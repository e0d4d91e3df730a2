"""What may be said about a study of proxies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwnas.errors import ConfigError

__all__ = ["COSTS", "ProxyOptions"]

COSTS = ("embedding_distortion", "bitops")


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """Settings of a study of proxies.

    Attributes:
        costs: Cost models to judge, each `[LABEL=]SPEC`.
        options: Options of each, by label, or by spec without one.
        bands: Parts of equal number, by BitOPs, that are judged by themselves; 4 by default, or
            fewer where there are few subnets. 0 for none.
        bootstrap: Draws for the intervals; 0 for none.
        top: Share of the subnets that is the top.
        prompt: Kind of prompt of the subnets, where the file holds several.
        seed: Of the draws, and of cost models that draw random numbers.

    Raises:
        ConfigError: values that make no sense, all of them.
    """

    costs: tuple[str, ...] = COSTS
    options: Mapping[str, Mapping[str, Any]] | None = None
    bands: int | None = None
    bootstrap: int = 1000
    top: float = 0.1
    prompt: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = []
        if self.bands is not None and self.bands < 0:
            wrong.append(f"--bands {self.bands}: expected 0 or more")
        if self.bootstrap < 0:
            wrong.append(f"--bootstrap {self.bootstrap}: expected 0 or more, such as 1000")
        if not 0 < self.top <= 1:
            wrong.append(f"--top {self.top}: expected a share above 0, at most 1")
        if wrong:
            raise ConfigError("; ".join(wrong))
