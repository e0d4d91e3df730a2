"""A bound on a cost: `latency<=20`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import ConfigError

__all__ = ["Limit", "LimitOn"]

FloatArray = NDArray[np.float64]
LimitOn = Literal["pessimistic", "point"]

_PATTERN = re.compile(r"\s*(?P<name>[^\s<>=]+)\s*(?P<op><=|>=)\s*(?P<bound>[^\s<>=]+)\s*")


@dataclass(frozen=True, slots=True)
class Limit:
    """`name` must be at most (`<=`) or at least (`>=`) `bound`, in the unit of its cost model.

    A cost model may give an interval; then the limit holds against its worse end (`on` is
    "pessimistic"), or against the value itself (`on` is "point"). Where a model gives no interval
    the value is what there is.
    """

    name: str
    op: Literal["<=", ">="]
    bound: float
    on: LimitOn = "pessimistic"

    def __post_init__(self) -> None:
        if self.op not in ("<=", ">="):
            raise ConfigError(f"limit {self.name!r}: {self.op!r} is not an operator; use <= or >=")
        if self.on not in ("pessimistic", "point"):
            raise ConfigError(f"limit on {self.on!r}: expected 'pessimistic' or 'point'")
        if not math.isfinite(self.bound):
            raise ConfigError(f"limit {self}: the bound must be a finite number")

    @classmethod
    def parse(cls, text: str, *, on: LimitOn = "pessimistic") -> Limit:
        """Read `NAME<=VALUE` or `NAME>=VALUE`; spaces are allowed.

        Raises:
            ConfigError: the text has another form, or the bound is no finite number.
        """
        found = _PATTERN.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"limit {text!r} is not of the form NAME<=VALUE or NAME>=VALUE, "
                "for example 'latency<=20' (quote it for the shell)"
            )
        try:
            bound = float(found["bound"])
        except ValueError as error:
            raise ConfigError(
                f"limit {text!r}: {found['bound']!r} is not a number; write the bound without a "
                "unit, in the unit of the cost model"
            ) from error
        op: Literal["<=", ">="] = "<=" if found["op"] == "<=" else ">="
        return cls(found["name"], op, bound, on)

    def __str__(self) -> str:
        return f"{self.name}{self.op}{self.bound:g}"

    def judged(self, value: FloatArray, lo: FloatArray, hi: FloatArray) -> FloatArray:
        """The numbers that the limit is held against, (n,); `lo` and `hi` are NaN where unknown."""
        if self.on == "point":
            return value
        end = hi if self.op == "<=" else lo
        return np.where(np.isnan(end), value, end)

    def violation(self, value: FloatArray, lo: FloatArray, hi: FloatArray) -> FloatArray:
        """G (n,), at most 0 where the limit holds; a share of the bound, or absolute if that is 0.

        Shares make limits of different units comparable, so that none dominates their sum.
        """
        judged = self.judged(value, lo, hi)
        excess = judged - self.bound if self.op == "<=" else self.bound - judged
        return excess / (abs(self.bound) or 1.0)
