"""Spaces over the image encoder of SAM: resolution, depth, heads, MLP width and bit-widths.

Every smaller choice is a slice or a skip of the largest network's weights, so that one set of
weights serves all of them. Source of the axes: the mixed-precision supernet literature (OFA,
AutoFormer, QFA) applied to SAM; see `docs/decisions/0001-bitops.md` for what is counted.

Genes: `resolution`; `keep.S`, the number of blocks kept in stage S, whose last block is never
dropped; and for each block I `blocks.I.heads`, `blocks.I.ratio`, `blocks.I.attn_bits` and for each
of qkv, proj, lin1, lin2 `w_bits` and `a_bits` (of that layer's input).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hwnas.space import Arch, Constraint, SearchSpace, ordinal, repeat, require
from hwnas.space.declarations import Declaration
from hwnas.space.derived import WITH_AXES
from hwnas.workload.layers import Workload
from hwnas.workload.sam import FULL_GRID, GEOMETRIES, LINEARS, SamGeometry, encoder_layers, plan_of
from hwnas.workload.sam_decoder import decoder_layers
from search_spaces.sam_slots import sam_slots

__all__ = [
    "IMPORTANCE_T",
    "keep_order",
    "sam_space",
    "sam_vit_b",
    "sam_vit_h",
    "sam_vit_l",
    "sam_vit_s",
    "sam_vit_t",
]

_SUPERNET = "hwnas.supernet.sam_supernet:build"
_RATIOS = (2, 3, 4)
# 1 - mean cosine of a block's input and output tokens on 32 training images, as `hwnas prepare`
# measured it for the shipped weights (docs/supernet.md); the supernet file holds the same order.
IMPORTANCE_T = (
    0.829, 0.065, 0.057, 0.020, 0.058, 0.007, 0.002, 0.004, 0.005, 0.010, 0.004, 0.043,
)  # fmt: skip
# What a search optimizes where nobody says otherwise; its front is then scored by `iou`. Quality is
# predicted where there are evaluated subnets to learn from, or pictures or weights of the user's.
_OBJECTIVES = (("quality", "embedding_distortion"), "latency", "bitops")


def sam_space(
    geometry: SamGeometry,
    *,
    bits: Sequence[int] = (2, 3, 4, 8),
    attn_bits: Sequence[int] = (4, 8),
    importance: Mapping[int, float] | None = None,
    token_grid: bool = False,
    dims: Sequence[int] = (),
    decoder_bits: int = 16,
) -> SearchSpace:
    """Build the space of one encoder size.

    Args:
        geometry: The stock encoder, which is the largest architecture.
        bits: Bit-widths of weights and of inputs of the linear layers; add 6 for finer steps.
        attn_bits: Bit-widths of q, k, v and the output of the softmax.
        importance: A number for each block; within a stage the least important is dropped first.
            Without it, the block furthest from the stage's last is.
        token_grid: Adds the gene `token_grid`: the stage at whose entry the map is halved.
        dims: Adds the gene `dim`, the width of the residual stream; the geometry's own is added.
        decoder_bits: Bits of the mask decoder, which is not searched: 16, or 8 for W8A8.
    """
    widths = tuple(sorted({*dims, geometry.dim})) if dims else ()
    axes = ("resolution", *(("token_grid",) if token_grid else ()), *(("dim",) if widths else ()))
    declarations: list[Declaration] = [
        ordinal("resolution", geometry.resolutions, role="resolution"),
        *([ordinal("token_grid", _grid_options(geometry))] if token_grid else []),
        *([ordinal("dim", widths, role="width")] if widths else []),
    ]
    choices = _block_choices(geometry, bits, attn_bits)
    for stage in range(geometry.stages):
        blocks = geometry.stage_blocks(stage)
        declarations += [
            ordinal(f"keep.{stage}", range(1, len(blocks) + 1), role="depth"),
            repeat(
                "blocks", blocks, choices, depth=f"keep.{stage}",
                keep_order=keep_order(geometry, stage, importance),
            ),
        ]  # fmt: skip
    return SearchSpace(
        geometry.name,
        declarations,
        constraints=_heads_fit(geometry) if widths else (),
        slots=sam_slots(geometry, axes, decoder_bits),
        lower=partial(_lower, geometry=geometry, decoder_bits=decoder_bits),
        supernet=_SUPERNET,
        extras=_extras(
            _WithAxes(
                geometry,
                tuple(bits),
                tuple(attn_bits),
                tuple((importance or {}).items()),
                dims,
                token_grid,
                decoder_bits,
            )
        ),
        description=f"SAM image encoder, {geometry.dim} wide, {geometry.depth} blocks",
    )


def _extras(grow: _WithAxes) -> dict[str, Any]:
    axes = {"optional_axes": ("token_grid", "dim"), WITH_AXES: grow}
    return {"objectives": _OBJECTIVES, "rescore": "iou", **axes}


@dataclass(frozen=True)
class _WithAxes:
    """Builds the same space with optional axes added to those that it has."""

    geometry: SamGeometry
    bits: tuple[int, ...]
    attn_bits: tuple[int, ...]
    importance: tuple[tuple[int, float], ...]
    dims: Sequence[int]
    token_grid: bool
    decoder_bits: int

    def __call__(self, axes: Sequence[str]) -> SearchSpace:
        dims = tuple(self.dims) or (_narrower(self.geometry) if "dim" in axes else ())
        return sam_space(
            self.geometry, bits=self.bits, attn_bits=self.attn_bits,
            importance=dict(self.importance), token_grid=self.token_grid or "token_grid" in axes,
            dims=dims, decoder_bits=self.decoder_bits,
        )  # fmt: skip


def _narrower(geometry: SamGeometry) -> tuple[int, ...]:
    """Ten and eleven twelfths of the width in steps of 16 channels: 640 and 704 of 768."""
    return tuple(round(geometry.dim * part / 12 / 16) * 16 for part in (10, 11))


def keep_order(
    geometry: SamGeometry, stage: int, importance: Mapping[int, float] | None = None
) -> tuple[int, ...]:
    """List the blocks of a stage from the last one dropped to the first one dropped.

    The stage's last block comes first; the rest follow by falling `importance`, later blocks first
    among equals.
    """
    *rest, last = geometry.stage_blocks(stage)
    scores = importance or {}
    return (last, *sorted(rest, key=lambda block: (-scores.get(block, 0.0), -block)))


def _block_choices(
    geometry: SamGeometry, bits: Sequence[int], attn_bits: Sequence[int]
) -> list[Declaration]:
    return [
        ordinal("heads", geometry.heads_options, role="width"),
        ordinal("ratio", _RATIOS, role="width"),
        ordinal("attn_bits", attn_bits, role="bits"),
        *(
            ordinal(f"{name}.{side}", bits, role="bits")
            for name in LINEARS
            for side in ("w_bits", "a_bits")
        ),
    ]


def _grid_options(geometry: SamGeometry) -> list[str]:
    return [*(str(stage) for stage in range(1, geometry.stages)), FULL_GRID]


def _heads_fit(geometry: SamGeometry) -> list[Constraint]:
    """Heads keep their width, so a narrower residual stream takes fewer of them."""
    return [
        require(
            f"heads of block {block} fit dim",
            ["dim", f"blocks.{block}.heads"],
            partial(_fits, head_dim=geometry.head_dim),
        )
        for block in range(geometry.depth)
    ]


def _fits(dim: int, heads: int, *, head_dim: int) -> bool:
    return heads * head_dim <= dim


def _lower(arch: Arch, *, geometry: SamGeometry, decoder_bits: int) -> Workload:
    plan = plan_of(arch, geometry)
    layers = (
        *encoder_layers(plan),
        *decoder_layers(plan.grid, bits=decoder_bits, drawn_boxes=geometry.drawn_boxes),
    )
    return Workload(layers, (3, plan.resolution, plan.resolution))


def sam_vit_b() -> SearchSpace:
    """SAM ViT-B: 768 wide, 12 blocks."""
    return sam_space(GEOMETRIES["sam-vit-b"])


def sam_vit_l() -> SearchSpace:
    """SAM ViT-L: 1024 wide, 24 blocks."""
    return sam_space(GEOMETRIES["sam-vit-l"])


def sam_vit_h() -> SearchSpace:
    """SAM ViT-H: 1280 wide, 32 blocks."""
    return sam_space(GEOMETRIES["sam-vit-h"])


def sam_vit_s() -> SearchSpace:
    """A 384-wide SAM with global attention only, converted from a DINOv2-layout encoder."""
    return sam_space(GEOMETRIES["sam-vit-s"])


def sam_vit_t() -> SearchSpace:
    """The small SAM that ships with the package: 192 wide, 12 blocks, windows of 8."""
    return sam_space(GEOMETRIES["sam-vit-t"], importance=dict(enumerate(IMPORTANCE_T)))
