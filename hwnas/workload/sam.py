"""The layers of a SAM image encoder, by shape arithmetic.

Source: segment-anything `modeling/image_encoder.py`. Counted as PyTorch computes it: window
padding takes part in attention, relative positions are two products with a table, and every
tensor between two layers is written and read once.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.workload import ops
from hwnas.workload.layers import FLOAT_BITS, LayerSpec
from hwnas.workload.ops import Bits
from hwnas.workload.sam_geometry import GEOMETRIES, SamGeometry
from hwnas.workload.sam_plan import (
    FULL_GRID,
    LINEARS,
    BlockPlan,
    EncoderPlan,
    grid_of_block,
    plan_of,
    pool_stage_of,
)

__all__ = [
    "FULL_GRID",
    "GEOMETRIES",
    "LINEARS",
    "BlockPlan",
    "BlockShape",
    "EncoderPlan",
    "SamGeometry",
    "attention_layers",
    "encoder_layers",
    "grid_of_block",
    "lin1_layers",
    "lin2_layers",
    "neck_layers",
    "plan_of",
    "pool_layers",
    "pool_stage_of",
    "proj_layers",
    "qkv_layers",
    "stem_layers",
]

Layers = tuple[LayerSpec, ...]
_IN_CHANNELS = 3
_TABLE_BITS = 8  # relative-position tables, where the attention itself is quantized


@dataclass(frozen=True, slots=True)
class BlockShape:
    """Sizes of one block at one grid; `window` 0 means global attention.

    Attributes:
        name: Prefix of the layers' names, and their group.
        grid: Tokens along one side of the map.
        window: Side of a window in tokens, or 0.
        dim: Channels of the residual stream.
        heads: Attention heads.
        head_dim: Channels of one head.
        hidden: Hidden units of the MLP.
        float_bits: Bits of activations left in floating point.
    """

    name: str
    grid: int
    window: int
    dim: int
    heads: int
    head_dim: int
    hidden: int
    float_bits: int = 16

    @classmethod
    def of(cls, plan: EncoderPlan, block: BlockPlan) -> BlockShape:
        """Read the sizes of one block of a plan."""
        return cls(
            f"blocks.{block.index}",
            plan.grid_of(block.index),
            plan.geometry.window_of(block.index),
            plan.width,
            block.heads,
            plan.geometry.head_dim,
            block.mlp_hidden,
            plan.float_bits,
        )

    @property
    def inner(self) -> int:
        """Channels of q, of k and of v: heads x head_dim."""
        return self.heads * self.head_dim

    @property
    def side(self) -> int:
        """Tokens along one side of the region that attends to itself."""
        return self.window or self.grid

    @property
    def windows(self) -> int:
        """Regions that attend to themselves; the last row and column are padded to full size."""
        return (-(-self.grid // self.window)) ** 2 if self.window else 1

    @property
    def length(self) -> int:
        """Tokens of one region."""
        return self.side**2

    @property
    def tokens(self) -> int:
        """Tokens of the map."""
        return self.grid**2

    @property
    def padded_tokens(self) -> int:
        """Tokens that pass through qkv and proj, padding included."""
        return self.windows * self.length

    @property
    def residual_bits(self) -> int:
        """Bits of the residual stream, alive across the whole block."""
        return self.tokens * self.dim * self.float_bits


def stem_layers(
    geometry: SamGeometry,
    resolution: int,
    *,
    dim: int | None = None,
    bits: int = 8,
    float_bits: int = 16,
) -> Layers:
    """Patch embedding and the absolute position table, stored at the grid of `resolution`."""
    width = geometry.dim if dim is None else dim
    grid, patch = geometry.grid(resolution), geometry.patch
    elems = grid * grid * width
    edge = Bits(bits, bits, float_bits)
    table = Bits(FLOAT_BITS, float_bits, float_bits)
    return (
        ops.conv(
            "patch_embed", (_IN_CHANNELS, width), patch, grid, edge, stride=patch, group="stem"
        ),
        LayerSpec(
            "pos_embed", "add", 0, elems, elems, elems, element_ops=elems, group="stem",
            **table.spec(),
        ),
    )  # fmt: skip


def qkv_layers(shape: BlockShape, w_bits: int, a_bits: int, attn_bits: int) -> Layers:
    """First norm, the partition into windows, and the projection to q, k and v."""
    s = shape
    norm = ops.norm(
        f"{s.name}.norm1", s.tokens, s.dim, a_bits=s.float_bits, out_bits=a_bits, group=s.name
    )
    qkv = _linear(s, "qkv", s.padded_tokens, (s.dim, 3 * s.inner), Bits(w_bits, a_bits, attn_bits))
    return norm, *_window_copy(s, "window", s.tokens, s.padded_tokens, a_bits), qkv


def attention_layers(shape: BlockShape, attn_bits: int, out_bits: int) -> Layers:
    """Scores, relative positions, softmax and the sum of values; `out_bits` are proj's input's."""
    s, regions = shape, shape.windows * shape.heads
    scores, relative = regions * s.length**2, regions * s.length * s.side
    held = s.residual_bits + s.padded_tokens * s.inner * attn_bits  # the values wait for the end
    both = Bits(attn_bits, attn_bits, s.float_bits)
    summed = Bits(attn_bits, attn_bits, out_bits)
    rest = {"group": s.name}
    return (
        ops.matmul(
            f"{s.name}.qk", regions, s.length, s.head_dim, s.length, both, held_bits=held, **rest
        ),
        _relative(s, "rel_h", attn_bits, held + scores * s.float_bits),
        _relative(s, "rel_w", attn_bits, held + (scores + relative) * s.float_bits),
        ops.elementwise(
            f"{s.name}.softmax",
            "softmax",
            scores,
            scores,
            a_bits=s.float_bits,
            out_bits=attn_bits,
            extra_in_elems=2 * relative,
            ops_per_element=3,
            held_bits=held,
            shape=(s.windows, s.heads, s.length, s.length, s.side),
            **rest,
        ),
        ops.matmul(
            f"{s.name}.av", regions, s.length, s.length, s.head_dim, summed,
            held_bits=s.residual_bits, **rest,
        ),
    )  # fmt: skip


def _relative(s: BlockShape, name: str, attn_bits: int, held_bits: int) -> LayerSpec:
    """Product of every query with the rows of a position table that it can meet."""
    bits = _TABLE_BITS if attn_bits < 16 else attn_bits
    rows = s.windows * s.heads * s.length
    return LayerSpec(
        f"{s.name}.{name}",
        "matmul",
        rows * s.side * s.head_dim,
        (2 * s.side - 1) * s.head_dim,
        rows * s.head_dim,
        rows * s.side,
        scales=1 if bits < 16 else 0,
        shape=(s.side, rows // s.side, s.head_dim, s.side),
        group=s.name,
        held_bits=held_bits,
        **Bits(bits, attn_bits, s.float_bits).spec(),
    )


def proj_layers(shape: BlockShape, w_bits: int, a_bits: int) -> Layers:
    """Output projection, the way back from windows, and the residual sum."""
    s, bits = shape, Bits(w_bits, a_bits, shape.float_bits)
    proj = _linear(s, "proj", s.padded_tokens, (s.inner, s.dim), bits)
    back = _window_copy(s, "unwindow", s.padded_tokens, s.tokens, s.float_bits)
    return proj, *back, _residual_sum(s, "add1")


def lin1_layers(shape: BlockShape, w_bits: int, a_bits: int) -> Layers:
    """Second norm and the widening layer of the MLP, which sees no window padding."""
    s, bits = shape, Bits(w_bits, a_bits, shape.float_bits)
    norm = ops.norm(
        f"{s.name}.norm2", s.tokens, s.dim, a_bits=s.float_bits, out_bits=a_bits, group=s.name
    )
    return norm, _linear(s, "lin1", s.tokens, (s.dim, s.hidden), bits)


def lin2_layers(shape: BlockShape, w_bits: int, a_bits: int) -> Layers:
    """GELU, the narrowing layer of the MLP, and the residual sum."""
    s, bits = shape, Bits(w_bits, a_bits, shape.float_bits)
    gelu = ops.elementwise(
        f"{s.name}.gelu",
        "act",
        s.tokens * s.hidden,
        s.tokens * s.hidden,
        a_bits=s.float_bits,
        out_bits=a_bits,
        group=s.name,
        held_bits=s.residual_bits,
    )
    return gelu, _linear(s, "lin2", s.tokens, (s.hidden, s.dim), bits), _residual_sum(s, "add2")


def _linear(s: BlockShape, name: str, rows: int, channels: tuple[int, int], b: Bits) -> LayerSpec:
    return ops.linear(
        f"{s.name}.{name}", rows, *channels, b, group=s.name, held_bits=s.residual_bits
    )


def _window_copy(s: BlockShape, name: str, tokens: int, out_tokens: int, bits: int) -> Layers:
    if not s.window:
        return ()
    copy = ops.elementwise(
        f"{s.name}.{name}",
        "window",
        tokens * s.dim,
        out_tokens * s.dim,
        a_bits=bits,
        out_bits=bits,
        ops_per_element=0,
        shape=(s.grid, s.window, s.dim, int(name == "unwindow")),
        group=s.name,
        held_bits=s.residual_bits,
    )
    return (copy,)


def _residual_sum(s: BlockShape, name: str) -> LayerSpec:
    elems = s.tokens * s.dim
    return ops.elementwise(
        f"{s.name}.{name}",
        "add",
        elems,
        elems,
        extra_in_elems=elems,
        a_bits=s.float_bits,
        out_bits=s.float_bits,
        group=s.name,
    )


def pool_layers(width: int, grid: int, *, float_bits: int = 16) -> Layers:
    """2 x 2 average pooling of a token map of `grid` x `grid`."""
    elems = grid * grid * width
    pool = ops.elementwise(
        "pool",
        "pool",
        elems,
        elems // 4,
        a_bits=float_bits,
        out_bits=float_bits,
        ops_per_element=4,
        shape=(grid, width, 2),
        group="stem",
    )
    return (pool,)


def neck_layers(
    geometry: SamGeometry,
    resolution: int,
    *,
    dim: int | None = None,
    pooled: bool = False,
    bits: int = 8,
    float_bits: int = 16,
) -> Layers:
    """Resize back if the map was pooled, then 1 x 1 and 3 x 3 convolution, a norm after each."""
    width, out = geometry.dim if dim is None else dim, geometry.neck_dim
    grid, edge = geometry.grid(resolution), Bits(bits, bits, float_bits)
    elems, tokens = grid * grid * width, grid * grid
    resize = ops.elementwise(
        "neck.resize",
        "resize",
        elems // 4,
        elems,
        a_bits=float_bits,
        out_bits=bits,
        ops_per_element=4,
        shape=(grid // 2, width, grid),
        group="neck",
    )
    return (
        *((resize,) if pooled else ()),
        ops.conv("neck.0", (width, out), 1, grid, edge, bias=False, group="neck"),
        ops.norm("neck.1", tokens, out, a_bits=float_bits, out_bits=bits, group="neck"),
        ops.conv("neck.2", (out, out), 3, grid, edge, bias=False, group="neck"),
        ops.norm("neck.3", tokens, out, a_bits=float_bits, out_bits=float_bits, group="neck"),
    )


def block_layers(shape: BlockShape, block: BlockPlan) -> Layers:
    """All layers of one block, in order."""
    qkv, proj, lin1, lin2 = zip(block.w_bits, block.a_bits, strict=True)
    return (
        *qkv_layers(shape, *qkv, block.attn_bits),
        *attention_layers(shape, block.attn_bits, proj[1]),
        *proj_layers(shape, *proj),
        *lin1_layers(shape, *lin1),
        *lin2_layers(shape, *lin2),
    )


def encoder_layers(plan: EncoderPlan) -> Layers:
    """All layers of an image encoder, in the order in which they run."""
    geometry, resolution, floats = plan.geometry, plan.resolution, plan.float_bits
    edge = plan.edge_bits
    layers = list(stem_layers(geometry, resolution, dim=plan.dim, bits=edge, float_bits=floats))
    pooled = False
    for block in plan.blocks:
        if plan.grid_of(block.index) != plan.grid and not pooled:
            pooled = True
            layers += pool_layers(plan.width, plan.grid, float_bits=floats)
        layers += block_layers(BlockShape.of(plan, block), block)
    layers += neck_layers(
        geometry, resolution, dim=plan.dim, pooled=pooled, bits=edge, float_bits=floats
    )
    return tuple(layers)
