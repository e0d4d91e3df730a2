"""Which entries of a matrix a sparse adapter trains: five masks of an exact size.

Source: Bhardwaj et al., "Sparse High Rank Adapters" (2024), section 3.1: struct, rand, wm
(magnitude), grad and snip, the shares of which are rough there; ours have exactly the asked number
of entries. Everything random comes from a generator that is given.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch

from hwnas.errors import ConfigError

__all__ = ["BY_GRADIENT", "MASKS", "entry_count", "mask_entries"]

MASKS = ("magnitude", "random", "struct", "gradient", "snip")
BY_GRADIENT = ("gradient", "snip")


def entry_count(density: float, rows: int, columns: int) -> int:
    """floor(density * rows * columns), with the density as the decimal number that it is written.

    Raises ConfigError for a density that leaves no entry, or is above 1.
    """
    count = math.floor(Fraction(repr(float(density))) * rows * columns) if density > 0 else 0
    if not 0 < count <= rows * columns:
        raise ConfigError(
            f"density {density} of a {rows} x {columns} matrix is {count} entries; expected at "
            f"least one and at most all, a density of {1 / (rows * columns):.2g} to 1"
        )
    return count


@torch.no_grad()
def mask_entries(
    mask: str, weight: torch.Tensor, count: int, *, rng: torch.Generator,
    gradient: torch.Tensor | None = None, block: int = 0,
) -> torch.Tensor:  # fmt: skip
    """Positions (count,), ascending, in the flattened matrix (rows, columns).

    - `magnitude`: the largest |w|. `gradient`: the largest mean |g|. `snip`: the largest |w| |g|.
    - `random`: all sets of this size are equally likely.
    - `struct`: the diagonal, then whole rows at equal distances, the last one in part.

    `block` b takes the b-th best entries instead of the best, so that adapters of several blocks
    share none; those of `random` need the same generator for that.

    Raises:
        ConfigError: there is no such mask, gradients are missing, or the blocks do not fit.
    """
    if mask not in MASKS:
        raise ConfigError(f"mask {mask!r} is none of {', '.join(MASKS)}")
    if block < 0 or (block + 1) * count > weight.numel():
        raise ConfigError(
            f"block {block} of {count} entries: a matrix of {weight.numel()} has blocks 0 to "
            f"{weight.numel() // count - 1}"
        )
    if mask == "random":
        order = torch.randperm(weight.numel(), generator=rng)[block * count :]
    elif mask == "struct":
        return _struct_entries(weight.shape[0], weight.shape[1], count, block)
    else:
        scores = _scores(mask, weight, gradient).flatten()
        order = torch.topk(scores, (block + 1) * count).indices[block * count :].cpu()
    return order[:count].sort().values


def _scores(mask: str, weight: torch.Tensor, gradient: torch.Tensor | None) -> torch.Tensor:
    if mask == "magnitude":
        return weight.abs()
    if gradient is None or gradient.shape != weight.shape:
        got = "none" if gradient is None else f"one of {tuple(gradient.shape)}"
        raise ConfigError(
            f"mask {mask} chooses by gradients: got {got}, expected the mean absolute gradient of "
            f"a weight of {tuple(weight.shape)} (`hwnas.adapters.mean_gradients`)"
        )
    return gradient.abs() if mask == "gradient" else weight.abs() * gradient.abs()


def _struct_entries(rows: int, columns: int, count: int, block: int) -> torch.Tensor:
    taken = torch.zeros(rows, columns, dtype=torch.bool)
    for shift in range(block + 1):
        chosen = _struct_block(taken, count, shift)
        taken.view(-1)[chosen] = True
    return chosen.sort().values


def _struct_block(taken: torch.Tensor, count: int, shift: int) -> torch.Tensor:
    """A diagonal, moved right by `shift`, and rows, moved down by it, of what is not taken."""
    rows, columns = taken.shape
    along = torch.arange(min(rows, columns))
    diagonal = along * columns + (along + shift) % columns
    diagonal = diagonal[~taken.view(-1)[diagonal]][:count]
    free = ~taken
    free.view(-1)[diagonal] = False
    rest = count - len(diagonal)
    needed = min(rows, -(-rest // max(1, columns - 1)))
    spread = (torch.arange(needed) * rows // max(1, needed) + shift) % rows
    # rows after those at equal distances, for blocks that find some entries taken
    order = torch.cat([spread, torch.arange(rows)[~torch.isin(torch.arange(rows), spread)]])
    found = free[order].nonzero()[:rest]
    return torch.cat([diagonal, order[found[:, 0]] * columns + found[:, 1]])
