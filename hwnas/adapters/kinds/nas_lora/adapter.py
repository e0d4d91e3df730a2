"""NAS-LoRA: a searched cell between the two factors of LoRA.

y = W x + (alpha / r) B cell(A x), where the cell mixes candidate operations by softmax(alpha), one
weight each. A re-implementation inspired by "NAS-LoRA" (arXiv 2512.03499): of the paper we know
the forward equation from a summary, and that architecture and weights are trained in turns with
two optimizers; the candidates, the ranks and the ways to export are ours. The variant with
partial channels follows PC-DARTS (Xu et al., 2020).

A cell that reads neighbouring tokens is no weight, whatever else is said of it. What can be done:
keep the branch; anneal it to its centre taps while training goes on, after which the fold is
exact; allow only operations on single tokens; or fit the weight that comes closest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hwnas.adapters.contract import MatrixSlice, NotFoldable, Role, WeightAdapter
from hwnas.adapters.kinds.lora import LoraAdapter
from hwnas.adapters.kinds.nas_lora.cell import Cell
from hwnas.adapters.kinds.nas_lora.moments import CellMoments
from hwnas.adapters.kinds.token_maps import (
    ImageGrid,
    as_maps,
    as_tokens,
    joined,
    real_tokens,
    windowed,
)
from hwnas.errors import ConfigError

__all__ = ["SPATIAL_SCOPES", "NasLoraAdapter", "NasPcLoraAdapter"]

SPATIAL_SCOPES = ("window", "image")


class NasLoraAdapter(WeightAdapter):
    """Adds (alpha / rank) B cell(A x), with A (r, I), B (O, r) and x (B, H, W, I) or (B, L, I).

    Args:
        whole: Shape of the matrix; a fused qkv shares one cell.
        rng: Draws A, the kernels and the first architecture parameters.
        rank: Channels of the cell.
        alpha: Strength; the output is multiplied by alpha / rank.
        op_set: `light`, `darts` or `token`. With `token`, in the linear style, the adapter is
            additive from the start.
        op_style: `linear`, or `darts` with ReLU and a norm, which no weight replaces.
        cell_nodes: 1 for one edge, 2 for three edges and edge weights.
        pc_k: One K-th of the channels meets the operations; must divide the rank.
        residual: Adds the input of the cell to its output. Else the first strength of the low-rank
            path is one share among all candidates, 1/8 with eight.
        alpha_init: First architecture parameters by operation, such as {"skip": 2.0}; 0 else.
        spatial_scope: Whether the cell reads each `window` of a windowed block on its own, or the
            `image` that `whole_images` puts together from them.

    A branch while its cell reads other tokens; additive as soon as it does not (`anneal(1)`,
    `fold_to`, `discretize` to a token's own operation).
    """

    role: Role = "branch"
    has_product = True
    mix: torch.Tensor
    fixed: torch.Tensor

    def __init__(  # noqa: PLR0913 - the options of the kind
        self, whole: MatrixSlice, *, rng: torch.Generator, rank: int = 4, alpha: float = 8.0,
        op_set: str = "light", op_style: str = "linear", cell_nodes: int = 1, pc_k: int = 1,
        residual: bool = False, alpha_init: Mapping[str, float] | None = None,
        spatial_scope: str = "window",
    ) -> None:  # fmt: skip
        super().__init__(whole)
        if rank < 1:
            raise ConfigError(f"rank {rank}: a NAS-LoRA cell needs at least 1 channel")
        if spatial_scope not in SPATIAL_SCOPES:
            raise ConfigError(
                f"spatial_scope {spatial_scope!r}: expected one of {', '.join(SPATIAL_SCOPES)}"
            )
        self.rank, self.gamma, self.residual = rank, alpha / rank, residual
        self.joins = spatial_scope == "image"
        self.grid: ImageGrid | None = None
        rows, columns = whole.shape
        drawn = torch.rand(rank, columns, generator=rng) * 2 - 1
        self.A = nn.Parameter(drawn / math.sqrt(columns))  # Kaiming-uniform with a = sqrt(5)
        self.B = nn.Parameter(torch.zeros(rows, rank))
        self.cell = Cell(
            rank, rng, op_set=op_set, op_style=op_style, nodes=cell_nodes, pc_k=pc_k,
            alpha_init=alpha_init,
        )  # fmt: skip
        self.register_buffer("mix", torch.zeros(rank, rank))
        self.register_buffer("fixed", torch.zeros(()))
        self.moments: CellMoments | None = None
        self.recording = False
        self.register_load_state_dict_post_hook(_settle)  # type: ignore[no-untyped-call]
        self.settle()

    def settle(self) -> None:
        """Read off the buffers what the adapter is now; loading a state dict does it as well."""
        self.cell.settle()
        self._fixed = bool(self.fixed)
        if self._fixed:
            self.cell.requires_grad_(False)
        self.role = "additive" if self._fixed or self.cell.local else "branch"

    def branch(self, x: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """(alpha / rank) B cell(A x), for x (B, H, W, I), or (B, L, I) with square L."""
        z = functional.linear(x, part.columns(self.A))
        return functional.linear(self._cell(z), part.rows(self.B)) * self.gamma

    def delta(self, part: MatrixSlice) -> torch.Tensor:
        """(alpha / rank) B M A, with M (r, r) what the cell does to one token alone."""
        return part.rows(self.B) @ (self.mixing() @ part.columns(self.A)) * self.gamma

    def product(self, x: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """X (..., I) by way of the r numbers of each token: (..., O)."""
        z = functional.linear(x, self.mixing() @ part.columns(self.A))
        return functional.linear(z, part.rows(self.B)) * self.gamma

    def fold(self) -> torch.Tensor:
        """The delta (O, I), exact: of token operations, of an annealed cell, or one fixed before.

        Raises:
            NotFoldable: the cell reads other tokens; its residual is what the best weight loses,
                on the tokens of the last `recorded` run, else on white noise.
        """
        if self.role == "additive":
            return self.delta(self.whole)
        where = "white noise" if self.moments is None else "the recorded tokens"
        moments = self.moments or self._white_noise()
        lost = moments.residual(moments.best())
        raise NotFoldable(
            f"the cell reads neighbouring tokens (t = {float(self.cell.t):.2f}), which no weight "
            f"does; the best one would lose {lost:.0%} of what the cell gives on {where}; anneal "
            "it to t = 1 while training goes on, fix an approximate one with "
            "hwnas.adapters.kinds.nas_lora.fold_cells(..., mode='lsq'), or keep the branch",
            lost,
        )

    def mixing(self, mode: str = "anneal") -> torch.Tensor:
        """The matrix M (r, r) that stands for the cell.

        `anneal`: of one token alone, which an annealed cell equals; `token`: of the operations
        that read one token; `lsq`: the closest on the recorded tokens.
        """
        if self._fixed:
            return self.mix
        if mode == "lsq":
            return (self.moments or self._white_noise()).best().to(self.A)
        matrix = self.cell.matrix(only_local=mode == "token")
        return matrix + torch.eye(self.rank, device=matrix.device) if self.residual else matrix

    def fold_to(self, mode: str) -> float:
        """Put a fixed matrix in the place of the cell; what it loses, 0 to 1.

        As `fold_cells` does for a whole model. The factors can be trained on, the cell cannot.
        """
        moments = self.moments or self._white_noise()
        matrix = self.mixing(mode).detach()
        lost = moments.residual(matrix)
        self.mix.copy_(matrix)
        self.fixed.fill_(1)
        self.moments = None
        self.settle()
        return lost

    def anneal(self, t: float) -> None:
        """Set how far the cell has gone to its centre taps, from 0 to 1, where it is a weight.

        Raises:
            ConfigError: t is outside 0 to 1, or an operation cannot be annealed.
        """
        if not 0 <= t <= 1:
            raise ConfigError(f"t = {t}: annealing goes from 0 to 1")
        if t > 0 and not all(operation.anneals for operation in self.cell.operations()):
            raise ConfigError(
                "a max-pool and the `darts` style (ReLU, norm) cannot be annealed into a weight; "
                "use op_set 'light' and op_style 'linear', discretize first, or keep the branch"
            )
        self.cell.t.fill_(t)
        self.settle()

    def set_temperature(self, temperature: float) -> None:
        """Divide the architecture parameters by this before the softmax; 1 at first.

        Raises:
            ConfigError: it is not positive.
        """
        if temperature <= 0:
            raise ConfigError(f"temperature {temperature}: expected a positive number")
        self.cell.temperature.fill_(temperature)

    def discretize(self, *, keep_strength: bool = True) -> list[str]:
        """Keep the strongest operation of each edge (`Cell.discretize`); their names."""
        kept = self.cell.discretize(keep_strength=keep_strength)
        self.settle()
        return kept

    def as_lora(self) -> LoraAdapter:
        """The LoRA pair with the same delta: M A and B.

        Raises:
            NotFoldable: as `fold`.
        """
        self.fold()
        rng = torch.Generator().manual_seed(0)  # overwritten
        pair = LoraAdapter(self.whole, rng=rng, rank=self.rank, alpha=self.gamma * self.rank)
        with torch.no_grad():
            pair.A.copy_(self.mixing() @ self.A)
            pair.B.copy_(self.B)
        return pair.to(self.A.device)

    def trainable_groups(self) -> dict[str, list[nn.Parameter]]:
        """`arch`: alpha and beta; `weights`: the factors and the kernels."""
        searched = {id(p) for p in self.cell.architecture()}
        trained = [p for p in self.parameters() if p.requires_grad]
        groups = {
            "weights": [p for p in trained if id(p) not in searched],
            "arch": [p for p in trained if id(p) in searched],
        }
        return {name: found for name, found in groups.items() if found}

    def _cell(self, z: torch.Tensor) -> torch.Tensor:
        if self._fixed:
            return functional.linear(z, self.mix)
        if self.joins and self.grid is not None:
            images = joined(z, self.grid)
            c = windowed(self._of_neighbours(images), *z.shape[1:3])
        else:
            c = self._of_neighbours(z)
        if self.recording and self.moments is not None:
            self.moments.add(z, c)
        return c

    @torch.no_grad()
    def _white_noise(self) -> CellMoments:
        rng = torch.Generator().manual_seed(0)
        z = torch.randn(8, 14, 14, self.rank, generator=rng).to(self.A)
        moments = CellMoments()
        moments.add(z, self._of_neighbours(z))
        return moments

    def _of_neighbours(self, z: torch.Tensor) -> torch.Tensor:
        maps = as_maps(z)
        c = as_tokens(self.cell(maps, real_tokens(maps)), z.shape)
        return z + c if self.residual else c


class NasPcLoraAdapter(NasLoraAdapter):
    """NAS-LoRA whose operations see one K-th of the channels, half by default (NAS-PC-LoRA).

    A kind of its own, so that files, tables and searches can name it.
    """

    def __init__(
        self, whole: MatrixSlice, *, rng: torch.Generator, pc_k: int = 2, **options: Any
    ) -> None:
        super().__init__(whole, rng=rng, pc_k=pc_k, **options)


def _settle(module: nn.Module, _: object) -> None:
    module.settle()  # type: ignore[operator]
