"""What a cost model is, and what it may be besides.

A cost model maps architectures to numbers. The search builds one with
`Plugin(context, **options)`, once; then `evaluate` is called with batches of any size, in any
order, and must give the same numbers for the same architectures each time. Quality is a cost
model like any other, with `direction = "max"`.

The other protocols are optional and looked for with `isinstance`: a model that implements
`Estimating` shows an interval, one that is `Fittable` is refitted as evaluations arrive, one with
a `Breakdown` is drawn block by block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import CostError

if TYPE_CHECKING:
    from hwnas.cost.context import CostContext
    from hwnas.space import Arch

Float = NDArray[np.float64]
Direction = Literal["min", "max"]
Fidelity = Literal["analytic", "estimated", "table", "predicted", "measured", "proxy"]


@runtime_checkable
class CostModel(Protocol):
    """Maps architectures to numbers.

    `name` is what users type in limits and see in columns, `unit` is printed beside every value,
    `direction` says which way is better; values keep their natural sign.
    """

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def direction(self) -> Direction: ...

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return one finite number for each arch, float64 of shape (n,), order kept.

        Raises:
            CostError: an arch cannot be priced; the message names its id and the reason.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class CostBatch:
    """Values of `n` architectures with what is known about their error.

    Attributes:
        value: Shape (n,), in `unit`.
        lo: Lower end of the interval, shape (n,), or None where no interval is known.
        hi: Upper end, likewise.
        level: Share of cases that the interval is meant to cover, or None where it has no
            statistical meaning.
        extrapolating: Which archs lie outside what the model was fitted on, shape (n,).
        fidelity: How the values came about.
        unit: Unit of `value`, `lo` and `hi`.
        model_version: Changes whenever equal archs may get other values.

    Raises:
        CostError: shapes disagree, or a value lies outside its own interval.
    """

    value: Float
    lo: Float | None
    hi: Float | None
    level: float | None
    extrapolating: NDArray[np.bool_]
    fidelity: Fidelity
    unit: str
    model_version: str

    def __post_init__(self) -> None:
        arrays = {"lo": self.lo, "hi": self.hi, "extrapolating": self.extrapolating}
        for name, array in arrays.items():
            if array is not None and array.shape != self.value.shape:
                raise CostError(
                    f"{self.model_version}: {name} has shape {array.shape}, expected the shape "
                    f"{self.value.shape} of value"
                )
        if self.lo is not None and not np.all(self.lo <= self.value):
            raise CostError(f"{self.model_version}: a value lies below its interval")
        if self.hi is not None and not np.all(self.value <= self.hi):
            raise CostError(f"{self.model_version}: a value lies above its interval")

    @classmethod
    def exact(cls, value: Float, *, unit: str, model_version: str) -> Self:
        """Wrap values of a closed form, whose interval is the value itself."""
        inside = np.zeros(value.shape, np.bool_)
        return cls(value, value, value, 1.0, inside, "analytic", unit, model_version)

    @classmethod
    def of_means(
        cls,
        scores: Sequence[tuple[float, float | None]],
        *,
        fidelity: Fidelity,
        unit: str,
        model_version: str,
    ) -> Self:
        """Wrap means with their standard errors; the interval is one of them to either side.

        There is no interval where a standard error is unknown (None: a mean of one).
        """
        value = np.array([mean for mean, _ in scores], dtype=np.float64)
        errors = np.array([error for _, error in scores if error is not None], dtype=np.float64)
        lo, hi = None, None
        if len(errors) == len(scores) > 0:
            lo, hi = value - errors, value + errors
        inside = np.zeros(value.shape, np.bool_)
        return cls(value, lo, hi, None, inside, fidelity, unit, model_version)


@runtime_checkable
class Estimating(Protocol):
    """A cost model that knows an interval; `evaluate(a)` equals `estimate(a).value`."""

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return values with their intervals."""
        ...


@runtime_checkable
class Breakdown(Protocol):
    """A cost model that can tell where the cost of one arch is."""

    def breakdown(self, arch: Arch) -> dict[str, float]:
        """Return the cost of each part of the network in the model's unit; they add up."""
        ...


@runtime_checkable
class Fittable(Protocol):
    """A cost model that learns from values; what it learned ends in `_` and survives `save`."""

    def fit(self, archs: Sequence[Arch], values: Float) -> Self:
        """Learn from values, shape (n,), in the model's unit; return the model."""
        ...

    def save(self, folder: Path) -> None:
        """Write what was learned as JSON, safetensors or XGBoost JSON."""
        ...

    @classmethod
    def load(cls, folder: Path, context: CostContext) -> Self:
        """Read `save` back; values are bit-equal."""
        ...


class SupernetLike(Protocol):
    """A weight-sharing network as a context hands it over; arrays are torch tensors."""

    def activate(self, arch: Arch) -> None:
        """Switch to a subnet; the weights are borrowed."""
        ...

    def embed(self, images: Any, arch: Arch) -> Any:
        """Return the image embeddings (B, C, g, g) of images (B, 3, R, R) under an arch."""
        ...


def estimate(model: CostModel, archs: Sequence[Arch]) -> CostBatch:
    """Return the estimate of any cost model; one that knows no interval gets none."""
    if isinstance(model, Estimating):
        return model.estimate(archs)
    value = model.evaluate(archs)
    inside = np.zeros(value.shape, np.bool_)
    fidelity: Fidelity = getattr(model, "fidelity", "analytic")
    return CostBatch(value, None, None, None, inside, fidelity, model.unit, model.name)
