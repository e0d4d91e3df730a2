"""What a SAM image encoder is made of once every choice is taken; costs and supernet read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from hwnas.errors import ArchError
from hwnas.workload.sam_geometry import SamGeometry

LINEARS: tuple[str, str, str, str] = ("qkv", "proj", "lin1", "lin2")
"""The linear layers of a block, in the order in which `BlockPlan` lists their bits."""

FULL_GRID = "full"
"""Option of the gene `token_grid` that leaves the token map as it is."""

FourBits = tuple[int, int, int, int]


class HasGenes(Protocol):
    """An `Arch`, as far as a plan reads it."""

    @property
    def genes(self) -> Mapping[str, object]: ...


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """One kept transformer block; 32 bits mean floating point.

    `index` is the physical block, which decides whether it attends in windows; `w_bits` and
    `a_bits` follow `LINEARS`; `attn_bits` holds for q, k, v and the output of the softmax.
    """

    index: int
    heads: int
    mlp_hidden: int
    w_bits: FourBits
    a_bits: FourBits
    attn_bits: int


@dataclass(frozen=True, slots=True)
class EncoderPlan:
    """One image encoder: kept blocks from first to last at one input resolution in pixels.

    Attributes:
        geometry: The stock encoder that the blocks are slices of.
        resolution: Side of the square input, in pixels.
        blocks: The kept blocks, in order.
        dim: Width of the residual stream; None keeps the geometry's.
        pool_stage: Stage at whose entry the token map is average-pooled by two, to be resized
            back before the neck; None keeps it.
        edge_bits: Bits of weights and inputs of patch embedding and neck.
        float_bits: Bits of activations that are left in floating point: the residual stream,
            attention scores before the softmax, the input of GELU.

    Raises:
        ArchError: the resolution does not fit the patches, or no block is left.
    """

    geometry: SamGeometry
    resolution: int
    blocks: tuple[BlockPlan, ...]
    dim: int | None = None
    pool_stage: int | None = None
    edge_bits: int = 8
    float_bits: int = 16

    def __post_init__(self) -> None:
        if self.resolution % self.geometry.patch or self.resolution < self.geometry.patch:
            raise ArchError(
                f"{self.geometry.name}: resolution {self.resolution} is not a multiple of the "
                f"patch side {self.geometry.patch}; take one of {self.geometry.resolutions}"
            )
        if not self.blocks:
            raise ArchError(f"{self.geometry.name}: no block is kept; keep at least one a stage")

    @property
    def width(self) -> int:
        """Channels of the residual stream."""
        return self.geometry.dim if self.dim is None else self.dim

    @property
    def grid(self) -> int:
        """Tokens along one side at the patch embedding and after the neck."""
        return self.geometry.grid(self.resolution)

    def grid_of(self, block: int) -> int:
        """Tokens along one side in a block."""
        return grid_of_block(self.geometry, self.resolution, block, self.pool_stage)

    @classmethod
    def uniform(
        cls,
        geometry: SamGeometry,
        *,
        resolution: int | None = None,
        w_bits: int = 32,
        a_bits: int = 32,
        attn_bits: int = 32,
        edge_bits: int | None = None,
    ) -> Self:
        """Plan of the largest encoder with the same bits everywhere, by default all in fp32."""
        w_four, a_four = (w_bits,) * 4, (a_bits,) * 4
        in_float = min(w_bits, a_bits, attn_bits) >= 32
        return cls(
            geometry,
            resolution or geometry.image_size,
            tuple(
                BlockPlan(i, geometry.heads, geometry.mlp_hidden, w_four, a_four, attn_bits)
                for i in range(geometry.depth)
            ),
            edge_bits=edge_bits or (32 if in_float else 8),
            float_bits=32 if in_float else 16,
        )


def grid_of_block(
    geometry: SamGeometry, resolution: int, block: int, pool_stage: int | None
) -> int:
    """Tokens along one side in a physical block, halved from `pool_stage` on."""
    grid = geometry.grid(resolution)
    pooled = pool_stage is not None and block >= geometry.stage_blocks(pool_stage).start
    return grid // 2 if pooled else grid


def pool_stage_of(token_grid: object) -> int | None:
    """Read an option of the gene `token_grid`: the number of a stage, or `FULL_GRID`."""
    return None if token_grid == FULL_GRID else int(str(token_grid))


def plan_of(arch: HasGenes | Mapping[str, object], geometry: SamGeometry) -> EncoderPlan:
    """Read the plan off the genes of an `Arch` (or a mapping) of a SAM space.

    Genes are `resolution`, `blocks.I.heads`, `blocks.I.ratio`, `blocks.I.LINEAR.w_bits`,
    `blocks.I.LINEAR.a_bits`, `blocks.I.attn_bits`, and where the space has them `token_grid` and
    `dim`. A block is kept if its genes are there, so which blocks a depth drops is the space's
    decision alone.
    """
    genes = arch if isinstance(arch, Mapping) else arch.genes
    kept = [i for i in range(geometry.depth) if f"blocks.{i}.heads" in genes]
    return EncoderPlan(
        geometry,
        _int(genes, "resolution"),
        tuple(_block_of(genes, index, geometry) for index in kept),
        dim=_int(genes, "dim") if "dim" in genes else None,
        pool_stage=pool_stage_of(genes.get("token_grid", FULL_GRID)),
    )


def _block_of(genes: Mapping[str, object], index: int, geometry: SamGeometry) -> BlockPlan:
    prefix = f"blocks.{index}"
    return BlockPlan(
        index,
        _int(genes, f"{prefix}.heads"),
        _int(genes, f"{prefix}.ratio") * geometry.dim,
        _bits_of(genes, prefix, "w_bits"),
        _bits_of(genes, prefix, "a_bits"),
        _int(genes, f"{prefix}.attn_bits"),
    )


def _bits_of(genes: Mapping[str, object], prefix: str, side: str) -> FourBits:
    qkv, proj, lin1, lin2 = (_int(genes, f"{prefix}.{name}.{side}") for name in LINEARS)
    return qkv, proj, lin1, lin2


def _int(genes: Mapping[str, object], name: str) -> int:
    value = genes.get(name)
    if not isinstance(value, int):
        raise ArchError(f"gene {name} is {value!r}; a SAM encoder needs a whole number there")
    return value
