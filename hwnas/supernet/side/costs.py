"""What a side network costs: parameters, bytes, multiply-accumulates, BitOPs; shapes suffice.

Nothing of it is merged, so all of it comes on top of the encoder at inference. Products are
counted at 8 by 8 bits; norms, GELU and sums have no MACs (ADR 1), FiLM is a scale and a shift of
a norm once the subnet is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hwnas.supernet.side.config import HISTOGRAM, SideConfig, heads_of
from hwnas.workload.layers import LayerSpec, Workload
from hwnas.workload.ops import Bits, linear, matmul, norm
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["SideCosts", "side_costs", "side_workload"]

_BITS = Bits(8, 8, 8)
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class SideCosts:
    """Costs of one image, or of one frame of a clip.

    `file_bytes` are those of the tensors as saved, in float32; `deployed_bytes` with matrices of
    8 bits and all else in float32, scales included.
    """

    parameters: int
    file_bytes: int
    deployed_bytes: int
    macs: int
    bitops: int


def side_costs(
    config: SideConfig, geometry: SamGeometry, resolution: int, *, frames: int = 1
) -> SideCosts:
    """Count a side network at an input of `resolution` pixels; `frames` are those of a clip.

    Raises ConfigError for taps or a reduction that the geometry does not have.
    """
    table = side_workload(config, geometry, resolution, frames=frames).layers
    trained = side_workload(config, geometry, geometry.image_size, frames=2 if config.frames else 1)
    matrices = sum(layer.weight_elems for layer in trained.layers if layer.kind == "linear")
    scales = sum(layer.scales for layer in trained.layers)
    parameters = matrices + _small(trained) + _extra(config, geometry)
    macs = sum(layer.macs for layer in table)
    return SideCosts(
        parameters,
        _FLOAT_BYTES * parameters,
        matrices + _FLOAT_BYTES * (parameters - matrices + scales),
        macs,
        macs * _BITS.w * _BITS.a,
    )


def side_workload(
    config: SideConfig, geometry: SamGeometry, resolution: int, *, frames: int = 1
) -> Workload:
    """The layers of a side network for one image, or for one frame of a clip of `frames`."""
    layers = _layers(config, geometry, geometry.grid(resolution), frames)
    return Workload(tuple(layers), (3, resolution, resolution))


def _layers(
    config: SideConfig, geometry: SamGeometry, grid: int, frames: int
) -> Iterator[LayerSpec]:
    rows, width = grid * grid, config.width(geometry)
    taps, lst = config.blocks(geometry), config.cell == "lst_block"
    if lst:
        yield _linear("enter", rows, geometry.dim, width)
    for place, block in enumerate(taps):
        name = f"cells.{place}"
        if config.cell == "low_rank_mixer":
            yield from _mixer(name, config, width, grid, frames)
        elif lst:
            window = geometry.window_of(block) or grid
            yield from _lst(name, geometry.dim, width, grid, window)
        else:
            yield from _bottleneck(f"{name}.lateral", rows, width, config.rank)
            if place:
                yield from _bottleneck(f"{name}.vertical", rows, width, config.rank)
    out = geometry.dim if config.inject == "before" else geometry.neck_dim
    if lst:
        yield _linear("leave.0", rows, width, out)
    elif config.inject == "after":
        yield linear("leave.0", rows, width, config.rank, _BITS, bias=False)
        yield linear("leave.1", rows, config.rank, out, _BITS, bias=False)


def _mixer(
    name: str, config: SideConfig, width: int, grid: int, frames: int
) -> Iterator[LayerSpec]:
    rows, rank = grid * grid, config.rank
    yield from _bottleneck(name, rows, width, rank)
    yield norm(f"{name}.token_norm", rows, width, a_bits=16, out_bits=8)
    if config.frames and frames > 1:
        # a clip's product has rows x width columns; a frame has its share of them
        yield from _axis(f"{name}.time", config.frames, frames, rows * width, rank, frames)
    yield from _axis(f"{name}.height", grid, grid, grid * width, rank, 1)
    yield from _axis(f"{name}.width", grid, grid, grid * width, rank, 1)


def _axis(
    name: str, stored: int, length: int, columns: int, rank: int, share: int
) -> Iterator[LayerSpec]:
    """Two products along an axis of `length` tokens; `stored` numbers a factor's row has."""
    for part, (inner, outer), kept in (
        ("down", (length, rank), rank), ("up", (rank, length), stored),
    ):  # fmt: skip
        yield LayerSpec(
            f"{name}.{part}", "linear", columns * inner * outer // share, stored * rank,
            columns * inner // share, columns * outer // share, bias_elems=kept,
            scales=_BITS.constants(outer), shape=(columns // share, inner, outer), **_BITS.spec(),
        )  # fmt: skip


def _lst(name: str, dim: int, width: int, grid: int, window: int) -> Iterator[LayerSpec]:
    rows, windows = grid * grid, (-(-grid // window)) ** 2
    inside, heads = windows * window * window, heads_of(width)
    yield _linear(f"{name}.down", rows, dim, width)
    yield norm(f"{name}.norm1", rows, width, a_bits=16, out_bits=8)
    yield _linear(f"{name}.qkv", inside, width, 3 * width)
    area, head = window * window, width // heads
    yield matmul(f"{name}.scores", windows * heads, area, head, area, _BITS)
    yield matmul(f"{name}.mixed", windows * heads, area, area, head, _BITS)
    yield _linear(f"{name}.proj", inside, width, width)
    yield norm(f"{name}.norm2", rows, width, a_bits=16, out_bits=8)
    yield _linear(f"{name}.lin1", rows, width, 4 * width)
    yield _linear(f"{name}.lin2", rows, 4 * width, width)


def _bottleneck(name: str, rows: int, width: int, rank: int) -> Iterator[LayerSpec]:
    yield norm(f"{name}.norm", rows, width, a_bits=16, out_bits=8)
    yield _linear(f"{name}.down", rows, width, rank)
    yield _linear(f"{name}.up", rows, rank, width)


def _linear(name: str, rows: int, inp: int, out: int) -> LayerSpec:
    return linear(name, rows, inp, out, _BITS)


def _small(workload: Workload) -> int:
    """Biases, and the scales and shifts of norms."""
    return sum(
        layer.bias_elems + (layer.weight_elems if layer.kind == "norm" else 0)
        for layer in workload.layers
    )


def _extra(config: SideConfig, geometry: SamGeometry) -> int:
    """Gates, and FiLM's two matrices a cell."""
    taps = len(config.blocks(geometry))
    film = 2 * config.width(geometry) * HISTOGRAM * taps if config.film else 0
    gates = taps - (0 if config.cell == "lst_block" else 1)  # the first cell joins nothing
    return film + (gates if config.combine == "gate" else 0)
