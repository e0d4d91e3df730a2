"""The contract of an adapter: what it adds to a frozen weight before the weight is quantized.

The weight of a layer at one bit-width b is Q_b(T(W + sum of deltas)): every additive adapter of
the active paths first, then the transforms, then the quantizer. The result is one matrix of
integers; nothing of an adapter is left in a deployed subnet.

The life of an adapter: constructed from the shape of its matrix, options and a generator; shown
the frozen weight once (`fit`); asked for its delta at the slice of whatever subnet runs, with
gradients in training, without in evaluation; saved and loaded through its `state_dict`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

__all__ = ["MatrixSlice", "Role", "WeightAdapter"]

Role = Literal["additive", "transform"]


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
    """One adapter of one layer; subclasses say `role` and give `delta` or `transform`.

    They are constructed as `Kind(whole, rng=..., **options)` with the shape of the whole matrix
    and a generator of random numbers; options are JSON. A fresh adapter changes nothing. An
    additive one has the delta of a slice equal to the slice of the whole delta. Everything that
    must be kept is a parameter or a buffer.
    """

    role: ClassVar[Role] = "additive"

    def __init__(self, whole: MatrixSlice) -> None:
        super().__init__()
        self.whole = whole

    def fit(self, weight: torch.Tensor) -> None:
        """See the frozen weight (O, I) once, when fresh; for adapters that choose from it."""
        del weight

    def delta(self, part: MatrixSlice) -> torch.Tensor:
        """What an additive adapter adds to the active part: a tensor of `part.shape`."""
        raise NotImplementedError(f"{type(self).__name__} is {self.role} and gives no delta")

    def transform(self, weight: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """What a transform makes of the active part (O, I) after all deltas are added."""
        del part
        raise NotImplementedError(f"{type(self).__name__} is {self.role} and does not transform")

    def trainable_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by what they are, for their learning rates."""
        return {"weights": [p for p in self.parameters() if p.requires_grad]}
