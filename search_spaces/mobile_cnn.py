"""A MobileNet-like classifier: inverted bottlenecks in five stages, searched stage by stage.

Genes: `resolution`, and for each stage I `stages.I.depth` (blocks), `.kernel`, `.expansion`,
`.width` (times the stage's channels), `.w_bits` and `.a_bits`. Stem, head and classifier are
8 x 8. It has no weights: costs are counted, and quality is the user's to bring.

Source of the macro layout: MobileNetV3 as searched by OFA (five stages, kernels 3 to 7,
expansions 3 to 6); squeeze-and-excite is left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from hwnas.space import Arch, SearchSpace, Slot, ordinal, repeat
from hwnas.workload import ops
from hwnas.workload.layers import LayerSpec, Workload
from hwnas.workload.ops import Bits

__all__ = ["mobile_cnn"]

_CHANNELS = (24, 40, 80, 112, 160)
_STRIDES = (2, 2, 2, 1, 2)
_STEM = 16
_HEAD = 960
_CLASSES = 1000
_EDGE = Bits(8, 8, 8)
Layers = tuple[LayerSpec, ...]
_CHANNEL_STEP = 8  # channels come in multiples of this, as integer kernels like them


def mobile_cnn() -> SearchSpace:
    """Build the space; each stage is a slot that depends on its own genes and the width before."""
    return SearchSpace(
        "mobile-cnn",
        [
            ordinal("resolution", (128, 160, 192, 224), role="resolution"),
            repeat(
                "stages",
                len(_CHANNELS),
                [
                    ordinal("depth", (2, 3, 4), role="depth"),
                    ordinal("kernel", (3, 5, 7)),
                    ordinal("expansion", (3, 4, 6), role="width"),
                    ordinal("width", (0.75, 1.0, 1.25), role="width"),
                    ordinal("w_bits", (2, 4, 8), role="bits"),
                    ordinal("a_bits", (4, 8), role="bits"),
                ],
            ),
        ],
        slots=_SLOTS,
        lower=lower,
        description="MobileNet-like classifier, five elastic stages",
    )


def lower(arch: Arch) -> Workload:
    """Count the layers; norms are folded into biases, activations run in place at `a_bits`."""
    layers = (slot.layers(*(arch[gene] for gene in slot.genes)) for slot in _SLOTS)
    resolution = int(arch["resolution"])
    return Workload(tuple(chain.from_iterable(layers)), (3, resolution, resolution))


@dataclass(frozen=True, slots=True)
class _Block:
    """Sizes of one inverted bottleneck; `side` is that of its output."""

    name: str
    group: str
    c_in: int
    c_out: int
    expansion: int
    kernel: int
    stride: int
    side: int
    w_bits: int
    a_bits: int


def _stem(resolution: int) -> Layers:
    stem = ops.conv("stem", (3, _STEM), 3, resolution // 2, _EDGE, stride=2, group="stem")
    return (stem,)


def _stage(stage: int, resolution: int, *genes: Any) -> Layers:
    """Layers of a stage from the genes of `_stage_slot`, in that order."""
    *before, depth, kernel, expansion, width, w_bits, a_bits = genes
    c_out = _channels(stage, width)
    c_in = _channels(stage - 1, before[0]) if before else _STEM
    side = resolution // 2 // math.prod(_STRIDES[: stage + 1])
    name = f"stages.{stage}"
    blocks = [
        _Block(
            f"{name}.{index}",
            name,
            c_in=c_out if index else c_in,
            c_out=c_out,
            expansion=expansion,
            kernel=kernel,
            stride=1 if index else _STRIDES[stage],
            side=side,
            w_bits=w_bits,
            a_bits=a_bits,
        )
        for index in range(depth)
    ]
    return tuple(layer for block in blocks for layer in _bottleneck(block))


def _head(resolution: int, width: float) -> Layers:
    side = resolution // 2 // math.prod(_STRIDES)
    channels = _channels(len(_CHANNELS) - 1, width)
    pool = ops.elementwise(
        "pool",
        "pool",
        side * side * _HEAD,
        _HEAD,
        a_bits=_EDGE.out,
        out_bits=_EDGE.out,
        ops_per_element=side * side,
        shape=(side, _HEAD, side),
        group="head",
    )
    return (
        ops.conv("head", (channels, _HEAD), 1, side, _EDGE, group="head"),
        pool,
        ops.linear("classifier", 1, _HEAD, _CLASSES, Bits(8, 8, 32), group="head"),
    )


def _channels(stage: int, width: float) -> int:
    return max(_CHANNEL_STEP, round(_CHANNELS[stage] * width / _CHANNEL_STEP) * _CHANNEL_STEP)


def _bottleneck(b: _Block) -> list[LayerSpec]:
    wide, wider = b.c_in * b.expansion, b.side * b.stride
    bits = Bits(b.w_bits, b.a_bits, b.a_bits)
    depthwise: dict[str, Any] = {"stride": b.stride, "groups": wide}
    layers = [
        ops.conv(f"{b.name}.expand", (b.c_in, wide), 1, wider, bits, group=b.group),
        ops.conv(f"{b.name}.dw", (wide, wide), b.kernel, b.side, bits, group=b.group, **depthwise),
        ops.conv(f"{b.name}.project", (wide, b.c_out), 1, b.side, bits, group=b.group),
    ]
    if b.stride == 1 and b.c_in == b.c_out:
        layers.append(_residual(b))
    return layers


def _residual(b: _Block) -> LayerSpec:
    elems = b.side * b.side * b.c_out
    return ops.elementwise(
        f"{b.name}.add",
        "add",
        elems,
        elems,
        extra_in_elems=elems,
        a_bits=b.a_bits,
        out_bits=b.a_bits,
        group=b.group,
    )


def _stage_slot(stage: int) -> Slot:
    own = ("depth", "kernel", "expansion", "width", "w_bits", "a_bits")
    before = (f"stages.{stage - 1}.width",) if stage else ()
    genes = ("resolution", *before, *(f"stages.{stage}.{gene}" for gene in own))
    return Slot(f"stages.{stage}", genes, partial(_stage, stage))


_SLOTS = (
    Slot("stem", ("resolution",), _stem),
    *(_stage_slot(stage) for stage in range(len(_CHANNELS))),
    Slot("head", ("resolution", f"stages.{len(_CHANNELS) - 1}.width"), _head),
)
