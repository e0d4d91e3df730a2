"""What the search optimizes: a cost model under its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hwnas.cost import CostModel
from hwnas.errors import ConfigError

__all__ = ["Direction", "Objective"]

Direction = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Objective:
    """A cost model with the name, unit and direction that everything shows.

    Values are natural everywhere outside `problem.py`: a quality of 0.8 is 0.8, never -0.8.
    """

    name: str
    unit: str
    direction: Direction
    model: CostModel

    def __post_init__(self) -> None:
        if self.direction not in ("min", "max"):
            raise ConfigError(
                f"cost model {self.name!r} has direction {self.direction!r}; expected 'min' or "
                "'max'"
            )

    @classmethod
    def of(cls, model: CostModel, name: str | None = None) -> Objective:
        """Take unit and direction from the model; `name` replaces the model's own."""
        return cls(name or model.name, model.unit, model.direction, model)
