"""The entries of a matrix that a sparse adapter trains, at any slice of the matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from hwnas.adapters.contract import MatrixSlice
from hwnas.adapters.kinds.shira_masks import BY_GRADIENT, MASKS, entry_count, mask_entries
from hwnas.errors import ConfigError

__all__ = ["GIVEN", "SparseDelta", "SparseEntries"]

GIVEN = "given"
"""A mask that is told its entries (`assign`): those of a file, or of several adapters fused."""


@dataclass(frozen=True, slots=True)
class SparseDelta:
    """What is added to a matrix of `shape`: `values` (k,) at ascending flat `entries` (k,)."""

    entries: torch.Tensor
    values: torch.Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, entries: torch.Tensor, values: torch.Tensor, shape: tuple[int, int]) -> SparseDelta:
        """From entries in any order; the values of one that comes twice are added."""
        found, where = torch.unique(entries.long(), return_inverse=True)
        summed = torch.zeros(len(found), dtype=values.dtype, device=values.device)
        return cls(found, summed.index_add_(0, where, values.detach()), shape)

    def dense(self) -> torch.Tensor:
        """As a matrix of `shape`."""
        flat = self.values.new_zeros(self.shape[0] * self.shape[1])
        return flat.index_copy_(0, self.entries, self.values).view(self.shape)

    def times(self, strength: float) -> SparseDelta:
        """With every value multiplied."""
        return SparseDelta(self.entries, self.values * strength, self.shape)


class SparseEntries(nn.Module):
    """Positions `indices` (2, k) int32, rows above columns, as huggingface/peft keeps them.

    Each of the parts of a fused qkv that `slices` names gets floor(density * rows * columns)
    entries of its own; a diagonal over all three would lie in q alone. A matrix of one part is
    masked whole, whatever `slices` says.
    """

    indices: torch.Tensor

    def __init__(
        self, whole: MatrixSlice, *, rng: torch.Generator, density: float, mask: str,
        slices: str = "qkv", block: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if mask not in (*MASKS, GIVEN):
            raise ConfigError(f"mask {mask!r} is none of {', '.join(MASKS)}")
        self.whole, self.mask, self.block = whole, mask, block
        self.parts = _parts(whole, slices)
        self.per_part = 0 if mask == GIVEN else entry_count(density, whole.out, whole.inp)
        self.seed = int(torch.randint(1 << 62, (), generator=rng))
        count = self.per_part * len(self.parts)
        self.register_buffer("indices", torch.zeros(2, count, dtype=torch.int32))

    def __len__(self) -> int:
        return self.indices.shape[1]

    @property
    def wants_gradient(self) -> bool:
        """Whether the entries are chosen by gradients."""
        return self.mask in BY_GRADIENT

    def fit(self, weight: torch.Tensor, gradient: torch.Tensor | None) -> None:
        """Choose the entries of each part of a weight (O, I)."""
        if self.mask == GIVEN:
            return
        # Only the masks of `random` draw; each layer has a seed of its own, each part a draw.
        rng = torch.Generator().manual_seed(self.seed)
        rows = self.whole.out
        chosen = []
        for part in range(self.whole.parts):
            lines = slice(part * rows, (part + 1) * rows)
            found = mask_entries(
                self.mask, weight[lines], self.per_part, rng=rng, block=self.block,
                gradient=None if gradient is None else gradient[lines],
            ) + part * rows * self.whole.inp  # fmt: skip
            if part in self.parts:
                chosen.append(found)
        self.assign(torch.cat(chosen))

    def assign(self, entries: torch.Tensor) -> None:
        """Take flat positions (k,) in the whole matrix."""
        columns = self.whole.inp
        found = torch.stack([entries // columns, entries % columns])
        self.indices = found.to(torch.int32).to(self.indices.device)

    def flat(self) -> torch.Tensor:
        """Flat positions (k,) int64 in the whole matrix."""
        rows, columns = self.indices.long().unbind()
        return rows * self.whole.inp + columns

    def of_slice(self, part: MatrixSlice) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Flat positions in a slice, and which of the k lie in it; None where all do."""
        if part == self.whole:
            return self.flat(), None
        rows, columns = self.indices.long().unbind()
        block, row = rows // self.whole.out, rows % self.whole.out
        inside = (row < part.out) & (columns < part.inp)
        flat = (block * part.out + row) * part.inp + columns
        return flat[inside], inside


def _parts(whole: MatrixSlice, slices: str) -> tuple[int, ...]:
    if not slices or set(slices) - set("qkv") or len(set(slices)) != len(slices):
        raise ConfigError(f"slices {slices!r}: expected some of the letters q, k and v, each once")
    return tuple("qkv".index(s) for s in sorted(slices)) if whole.parts == 3 else (0,)
