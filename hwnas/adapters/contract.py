"""The contract of an adapter: what it adds to a frozen linear layer.

The output of a layer at one bit-width b is Q_b(T(W + sum of deltas)) x + bias + sum of branches:
every additive adapter of the active paths first, then the transforms, then the quantizer, and
beside it the branches, which read x. Of additive adapters and transforms nothing is left in a
deployed network; a branch stays one, unless it can be folded into a delta.

The life of an adapter: constructed from the shape of its matrix, options and a generator; shown
the frozen weight once (`fit`); asked for its delta at the slice of whatever subnet runs, with
gradients in training, without in evaluation; saved and loaded through its `state_dict`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from hwnas.errors import ConfigError

__all__ = ["ROLES", "MatrixSlice", "NotFoldable", "Role", "WeightAdapter"]

Role = Literal["additive", "transform", "branch"]
ROLES: tuple[Role, ...] = ("additive", "transform", "branch")
"""In the order in which they act."""


class NotFoldable(ConfigError):
    """A branch that no weight can replace; `residual` is what a fold would lose, 0 to 1."""

    def __init__(self, message: str, residual: float | None = None) -> None:
        super().__init__(message)
        self.residual = residual


@dataclass(frozen=True, slots=True)
class MatrixSlice:
    """The active part of a weight matrix (parts * rows, columns).

    `out` rows of each of `parts` equal blocks of rows (3 for a fused qkv, else 1) and the first
    `inp` columns; as the shape of a whole matrix, all of them.
    """

    out: int
    inp: int
    parts: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the active part."""
        return self.parts * self.out, self.inp

    def rows(self, tensor: torch.Tensor) -> torch.Tensor:
        """The active rows of a whole tensor (parts * rows, ...); a view where that is possible."""
        if len(tensor) == self.parts * self.out:
            return tensor
        if self.parts == 1:
            return tensor[: self.out]
        split = tensor.view(self.parts, -1, *tensor.shape[1:])[:, : self.out]
        return split.reshape(self.parts * self.out, *tensor.shape[1:])

    def columns(self, tensor: torch.Tensor) -> torch.Tensor:
        """The active columns of a tensor (rows, columns)."""
        return tensor[:, : self.inp]

    def matrix(self, tensor: torch.Tensor) -> torch.Tensor:
        """The active rows and columns of a whole matrix."""
        return self.columns(self.rows(tensor))


class WeightAdapter(nn.Module):
    """One adapter of one layer; subclasses say `role` and give `delta`, `transform` or `branch`.

    They are constructed as `Kind(whole, rng=..., **options)` with the shape of the whole matrix
    and a generator of random numbers; options are JSON. A fresh adapter changes nothing. An
    additive one has the delta of a slice equal to the slice of the whole delta. Everything that
    must be kept is a parameter or a buffer.
    """

    role: Role = "additive"
    """Of the kind, or set by an instance: a branch becomes additive once it can be folded."""
    has_product: ClassVar[bool] = False
    """Whether `product` is there: what the delta makes of x, cheaper than with the delta."""

    def __init__(self, whole: MatrixSlice) -> None:
        super().__init__()
        self.whole = whole

    @property
    def wants_gradient(self) -> bool:
        """Whether `fit` needs the gradient of the frozen weight, which options may decide."""
        return False

    def fit(self, weight: torch.Tensor, gradient: torch.Tensor | None = None) -> None:
        """See the frozen weight (O, I) once, when fresh; for adapters that choose from it.

        `gradient` (O, I) is the mean size of its gradient over some batches, where one was taken.
        """
        del weight, gradient

    def delta(self, part: MatrixSlice) -> torch.Tensor:
        """What an additive adapter adds to the active part: a tensor of `part.shape`."""
        raise NotImplementedError(f"{type(self).__name__} is {self.role} and gives no delta")

    def product(self, x: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """X (..., I) times the transposed delta: (..., O)."""
        return x @ self.delta(part).t()

    def transform(self, weight: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """What a transform makes of the active part (O, I) after all deltas are added."""
        del part
        raise NotImplementedError(f"{type(self).__name__} is {self.role} and does not transform")

    def branch(self, x: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """What a branch adds to the output: (..., I) to (..., O); images are (B, H, W, I)."""
        del x, part
        raise NotImplementedError(f"{type(self).__name__} is {self.role} and has no branch")

    def fold(self) -> torch.Tensor:
        """The delta (O, I) that replaces the adapter; of an additive one, its own.

        Raises:
            NotFoldable: no weight does what the adapter does.
        """
        if self.role != "additive":
            raise NotFoldable(f"{type(self).__name__} is {self.role} and has no delta of its own")
        return self.delta(self.whole)

    def auxiliary_loss(self) -> torch.Tensor | None:
        """What training adds to its loss since it was last asked, a scalar; None for nothing.

        It belongs to the latest branch or delta that was asked for with gradients, in training.
        """
        return None

    def trainable_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by what they are, for their learning rates.

        `weights` learn like any weight; `arch`, the parameters of a relaxed architecture, have
        an optimizer of their own; `gate` and `magnitude` are rates of a user's choosing.
        """
        return {"weights": [p for p in self.parameters() if p.requires_grad]}
