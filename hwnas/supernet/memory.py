"""What training holds in memory whatever the batch: weights, gradients, moments of AdamW.

Activations come on top; they depend on batch, resolution and recomputation (`checkpoint`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import nn

from hwnas.adapters import Layout, block_linears
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["StaticMemory", "encoder_elements", "lora_elements", "static_memory"]

_FLOAT = 4  # bytes of a float32
_MOMENTS = 2  # of AdamW
_KERNEL = 9  # 3 x 3


@dataclass(frozen=True, slots=True)
class StaticMemory:
    """Bytes that a training step holds from beginning to end."""

    frozen_bytes: int
    trained_bytes: int
    gradient_bytes: int
    moment_bytes: int

    @classmethod
    def of(cls, frozen: int, trained: int, *, frozen_width: int = _FLOAT) -> Self:
        """From numbers of elements; `frozen_width` is 2 where frozen weights are bfloat16."""
        own = trained * _FLOAT
        return cls(frozen * frozen_width, own, own, _MOMENTS * own)

    @classmethod
    def of_module(cls, module: nn.Module) -> Self:
        """Of a module as it stands: what requires a gradient is trained."""
        parameters = list(module.parameters())
        trained = sum(p.numel() for p in parameters if p.requires_grad)
        frozen = sum(p.numel() * p.element_size() for p in parameters if not p.requires_grad)
        return cls.of(frozen, trained, frozen_width=1)

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.frozen_bytes + self.state_bytes

    @property
    def state_bytes(self) -> int:
        """What is there because of training: trained values, gradients, moments."""
        return self.trained_bytes + self.gradient_bytes + self.moment_bytes


def static_memory(
    geometry: SamGeometry, layout: Layout | None, *, rank: int = 8, frozen_width: int = _FLOAT
) -> StaticMemory:
    """Of an image encoder: all its weights trained, or frozen with LoRA in a layout.

    Scales, norms and biases, which train in both, are left out: less than one percent.
    """
    if layout is None:
        return StaticMemory.of(0, encoder_elements(geometry))
    trained = len(layout.every_path) * lora_elements(geometry, rank)
    return StaticMemory.of(encoder_elements(geometry), trained, frozen_width=frozen_width)


def lora_elements(geometry: SamGeometry, rank: int = 8) -> int:
    """Elements of one low-rank pair in each linear layer of all blocks: 16 r d a block."""
    shapes = (matrix.shape for matrix in block_linears(geometry).values())
    return sum(rank * (rows + columns) for rows, columns in shapes)


def encoder_elements(geometry: SamGeometry) -> int:
    """Parameters of the stock image encoder."""
    g = geometry
    patches, grid = 3 * g.patch**2, g.grid(g.image_size)
    edges = g.dim * (patches + 1) + grid**2 * g.dim
    neck = g.neck_dim * g.dim + _KERNEL * g.neck_dim**2 + 4 * g.neck_dim
    linears = [matrix.shape for matrix in block_linears(g).values()]
    matrices = sum(rows * columns + rows for rows, columns in linears)
    norms = g.depth * 4 * g.dim
    sides = (g.window_of(block) or grid for block in range(g.depth))
    tables = sum(2 * (2 * side - 1) * g.head_dim for side in sides)
    return edges + neck + matrices + norms + tables
