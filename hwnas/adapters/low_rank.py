"""Any adapter that folds into a weight as a plain LoRA, which every library reads."""

from __future__ import annotations

import re

import torch

from hwnas.adapters.attaching import Attached
from hwnas.adapters.kinds.lora import LoraAdapter
from hwnas.errors import ConfigError

__all__ = ["as_lora"]


@torch.no_grad()
def as_lora(
    attached: Attached, name: str, *, into: str, rank: int | None = None
) -> dict[str, float]:
    """Add a `lora` adapter with the best approximation of another's delta; it is active then.

    The truncated singular value decomposition of folded minus frozen weight, the same `rank` in
    each layer; without one, the smallest that is exact up to rounding, which for a sparse adapter
    or a DoRA is about that of the weight. Returns the relative error of each layer's delta,
    ||D - BA|| / ||D||.

    Raises:
        NotFoldable: the adapter is a branch that no weight replaces.
        ConfigError: there is no such adapter, or `into` is taken.
    """
    if name not in attached.specs or into in attached.specs:
        raise ConfigError(
            f"from adapter {name!r} into {into!r}; expected one that is attached and a new name; "
            f"attached are {', '.join(attached.specs) or 'none'}"
        )
    found = {}
    for path in attached.specs[name].layers:
        layer = attached.layers[path]
        delta = (layer.folded_weight([name]) - layer.weight).double()
        found[path] = torch.linalg.svd(delta, full_matrices=False)
    kept = rank or max(_numerical_rank(s) for _, s, _ in found.values())
    exactly = "|".join(map(re.escape, found))
    attached.add("lora", targets=exactly, name=into, rank=kept)
    errors = {}
    for path, adapter in attached.adapters(into).items():
        assert isinstance(adapter, LoraAdapter)
        u, s, v = found[path]
        size = min(kept, len(s))
        root = s[:size].sqrt()
        adapter.A.zero_()
        adapter.A[:size] = (root[:, None] * v[:size]).float()
        adapter.B[:, :size] = (u[:, :size] * root).float()
        errors[path] = float(s[size:].norm() / s.norm()) if s.any() else 0.0
    return errors


def _numerical_rank(singular: torch.Tensor) -> int:
    """Singular values above the rounding of float32 weights; at least one."""
    if not singular.any():
        return 1
    smallest = float(singular[0]) * len(singular) * float(torch.finfo(torch.float32).eps)
    return max(1, int((singular > smallest).sum()))
