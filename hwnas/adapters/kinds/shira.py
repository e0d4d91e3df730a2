"""Sparse adapters of high rank (SHiRA), alone and under a weight decomposition.

Source: Bhardwaj et al., "Sparse High Rank Adapters" (2024), section 3: a fixed 1 to 2 percent of
the entries of a weight are trained and nothing else, so the merged weight differs from the frozen
one in these entries only, and adapters can be exchanged by writing them (`switching.py`). The
paper masks the gradient; we train a vector of values beside the indices, as huggingface/peft does.
Masks are chosen for each of q, k and v of a fused qkv (`shira_masks.py`).

The combination with DoRA is a reconstruction: the paper says that it masks a high-rank DoRA, and
gives no equation. Ours is W + M (DoRA(W) - W), the norm a constant in backward.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hwnas.adapters.contract import MatrixSlice, WeightAdapter
from hwnas.adapters.kinds.dora import DoraAdapter
from hwnas.adapters.kinds.sparse_entries import GIVEN, SparseDelta, SparseEntries
from hwnas.errors import ConfigError

__all__ = ["ShiraAdapter", "ShiraDoraAdapter"]


class ShiraAdapter(WeightAdapter):
    """Adds `values` (k,) at k entries, floor(density * rows * columns) of each of q, k and v.

    `mask` is one of `shira_masks.MASKS`. `slices` names the parts of a fused qkv that have entries.
    Adapters of different `block`, from one base and one mask, share none.
    """

    def __init__(
        self,
        whole: MatrixSlice,
        *,
        rng: torch.Generator,
        density: float = 0.01,
        mask: str = "magnitude",
        slices: str = "qkv",
        block: int = 0,
    ) -> None:
        super().__init__(whole)
        self.chosen = SparseEntries(
            whole, rng=rng, density=density, mask=mask, slices=slices, block=block
        )
        self.values = nn.Parameter(torch.zeros(len(self.chosen)))
        self.register_load_state_dict_pre_hook(_take_size)  # type: ignore[no-untyped-call]

    @property
    def wants_gradient(self) -> bool:
        return self.chosen.wants_gradient

    def fit(self, weight: torch.Tensor, gradient: torch.Tensor | None = None) -> None:
        """Choose the entries."""
        self.chosen.fit(weight, gradient)

    def assign(self, sparse: SparseDelta) -> None:
        """Become what is given, whose entries may be of any number."""
        if sparse.shape != self.whole.shape:
            raise ConfigError(
                f"entries of a {sparse.shape} matrix for a layer of {self.whole.shape}; expected "
                "those of the same layer"
            )
        device = self.values.device
        self.chosen.assign(sparse.entries)
        self.values = nn.Parameter(sparse.values.detach().float().clone().to(device))

    def delta(self, part: MatrixSlice) -> torch.Tensor:
        """The values at their entries, zeros elsewhere."""
        flat, inside = self.chosen.of_slice(part)
        values = self.values if inside is None else self.values[inside]
        rows, columns = part.shape
        return values.new_zeros(rows * columns).index_add(0, flat, values).view(part.shape)

    def sparse(self, weight: torch.Tensor) -> SparseDelta:
        """What it adds, entry by entry; the frozen weight (O, I) does not matter."""
        del weight
        return SparseDelta.of(self.chosen.flat(), self.values, self.whole.shape)


def _take_size(module: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Let an adapter that is told its entries be told them by a state dict."""
    assert isinstance(module, ShiraAdapter)
    values = state.get(f"{prefix}values")
    if module.chosen.mask == GIVEN and values is not None and len(values) != len(module.values):
        module.chosen.assign(torch.zeros(len(values), dtype=torch.long))
        module.values = nn.Parameter(torch.zeros(len(values), device=module.values.device))


class ShiraDoraAdapter(WeightAdapter):
    """Gives the entries of a mask the weight that DoRA gives them, and leaves the others alone.

    `rank`, `alpha` and `split_qkv` are those of DoRA, the others those of SHiRA. `fuse` makes it
    an ordinary SHiRA adapter.
    """

    role = "transform"

    def __init__(  # noqa: PLR0913 - the options of two adapters
        self,
        whole: MatrixSlice,
        *,
        rng: torch.Generator,
        density: float = 0.01,
        mask: str = "magnitude",
        slices: str = "qkv",
        block: int = 0,
        rank: int = 32,
        alpha: float | None = None,
        split_qkv: bool = False,
    ) -> None:
        super().__init__(whole)
        self.chosen = SparseEntries(
            whole, rng=rng, density=density, mask=mask, slices=slices, block=block
        )
        self.dora = DoraAdapter(whole, rng=rng, rank=rank, alpha=alpha, split_qkv=split_qkv)

    @property
    def wants_gradient(self) -> bool:
        return self.chosen.wants_gradient

    def fit(self, weight: torch.Tensor, gradient: torch.Tensor | None = None) -> None:
        """Choose the entries, and take the row norms as the magnitude."""
        self.chosen.fit(weight, gradient)
        self.dora.fit(weight)

    def transform(self, weight: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """The weight with DoRA's at the entries of the mask."""
        flat, _ = self.chosen.of_slice(part)
        dense = self.dora.transform(weight, part).reshape(-1)
        return weight.reshape(-1).index_copy(0, flat, dense[flat]).view(part.shape)

    @torch.no_grad()
    def sparse(self, weight: torch.Tensor) -> SparseDelta:
        """What it changes of the frozen weight (O, I), entry by entry."""
        flat = self.chosen.flat()
        changed = self.transform(weight, self.whole).reshape(-1)[flat]
        return SparseDelta.of(flat, changed - weight.reshape(-1)[flat], self.whole.shape)

    def trainable_groups(self) -> dict[str, list[nn.Parameter]]:
        """Those of DoRA."""
        return self.dora.trainable_groups()
