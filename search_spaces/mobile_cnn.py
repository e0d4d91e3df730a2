"""Networks of inverted bottlenecks, searched stage by stage.

`mobile-cnn` is a MobileNet-like classifier in five stages. Genes: `resolution`, and for each stage
I `stages.I.depth` (blocks), `.kernel`, `.expansion`, `.width` (times the stage's channels),
`.w_bits` and `.a_bits`. Stem, head and classifier are 8 x 8. It has no weights: costs are counted,
and quality is the user's to bring.

`tile-cnn` (classes of images) and `tile-cnn-mask` (foreground) are small ones for tiles of 48
pixels, of four stages that differ in depth, kernel, expansion and width under one layout, with 8
bits throughout. Their networks can be trained from scratch and probed (`docs/proxies.md`).

Layouts and their sources: `hwnas/workload/cnn_plan.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from typing import Any

from hwnas.space import Arch, SearchSpace, Slot, ordinal, repeat
from hwnas.space.declarations import Declaration
from hwnas.workload import ops
from hwnas.workload.cnn_plan import CNNS, BottleneckPlan, CnnGeometry, stage_plan
from hwnas.workload.layers import LayerSpec, Workload
from hwnas.workload.ops import Bits

__all__ = ["mobile_cnn", "tile_cnn", "tile_cnn_mask"]

_EDGE = Bits(8, 8, 8)
_OUTPUT_BITS = 32
_UNTRAINED = "hwnas.supernet.scratch.untrained:build"
Layers = tuple[LayerSpec, ...]


def mobile_cnn() -> SearchSpace:
    """Build the space; each stage is a slot that depends on its own genes and the width before."""
    genes = [
        ordinal("depth", (2, 3, 4), role="depth"),
        ordinal("kernel", (3, 5, 7)),
        ordinal("expansion", (3, 4, 6), role="width"),
        ordinal("width", (0.75, 1.0, 1.25), role="width"),
        ordinal("w_bits", (2, 4, 8), role="bits"),
        ordinal("a_bits", (4, 8), role="bits"),
    ]
    return _space(
        CNNS["mobile-cnn"], (128, 160, 192, 224), genes,
        description="MobileNet-like classifier, five elastic stages",
    )  # fmt: skip


def tile_cnn() -> SearchSpace:
    """Build the space of classifiers of tiles; they have no weights until they are trained."""
    return _tile_space("tile-cnn", "Classifier of tiles of 48 pixels, for training from scratch")


def tile_cnn_mask() -> SearchSpace:
    """Build the space of networks that mark the foreground of tiles."""
    return _tile_space("tile-cnn-mask", "Foreground of tiles of 48 pixels, trained from scratch")


def _tile_space(name: str, description: str) -> SearchSpace:
    genes = [
        ordinal("depth", (1, 2, 3, 4), role="depth"),
        ordinal("kernel", (3, 5)),
        ordinal("expansion", (1, 2, 4), role="width"),
        ordinal("width", (0.5, 1.0, 1.5), role="width"),
    ]
    return _space(CNNS[name], (48,), genes, supernet=_UNTRAINED, description=description)


def _space(
    geometry: CnnGeometry, resolutions: Sequence[int], genes: Sequence[Declaration], **rest: Any
) -> SearchSpace:
    names = [gene.name for gene in genes]
    stages = len(geometry.channels)
    slots = (
        Slot("stem", ("resolution",), partial(_stem, geometry)),
        *(_stage_slot(geometry, stage, names) for stage in range(stages)),
        _head_slot(geometry),
    )
    return SearchSpace(
        geometry.name,
        [ordinal("resolution", resolutions, role="resolution"), repeat("stages", stages, genes)],
        slots=slots,
        lower=partial(_lower, slots),
        **rest,
    )


def _lower(slots: Sequence[Slot], arch: Arch) -> Workload:
    """Count the layers; norms are folded into biases, activations run in place at `a_bits`."""
    layers = (slot.layers(*(arch[gene] for gene in slot.genes)) for slot in slots)
    resolution = int(arch["resolution"])
    return Workload(tuple(chain.from_iterable(layers)), (3, resolution, resolution))


def _stage_slot(geometry: CnnGeometry, stage: int, own: Sequence[str]) -> Slot:
    before = (f"stages.{stage - 1}.width",) if stage else ()
    genes = ("resolution", *before, *(f"stages.{stage}.{gene}" for gene in own))
    return Slot(f"stages.{stage}", genes, partial(_stage, geometry, stage))


def _head_slot(geometry: CnnGeometry) -> Slot:
    read = geometry.lateral if geometry.ending == "pixels" else (len(geometry.channels) - 1,)
    layers = _pixel_ending if geometry.ending == "pixels" else _image_ending
    widths = tuple(f"stages.{stage}.width" for stage in read)
    return Slot("head", ("resolution", *widths), partial(layers, geometry))


def _stem(geometry: CnnGeometry, resolution: int) -> Layers:
    side = geometry.side(-1, resolution)
    channels = 3, geometry.stem
    return (ops.conv("stem", channels, 3, side, _EDGE, stride=resolution // side, group="stem"),)


def _stage(geometry: CnnGeometry, stage: int, resolution: int, *genes: Any) -> Layers:
    """Layers of a stage from the genes of `_stage_slot`, in that order; 8 bits without any."""
    before, own = (genes[0], genes[1:]) if stage else (1.0, genes)
    depth, kernel, expansion, width, *bits = own
    w_bits, a_bits = bits or (_EDGE.w, _EDGE.a)
    blocks = stage_plan(
        geometry, stage, resolution, before=before, depth=depth, kernel=kernel,
        expansion=expansion, width=width,
    )  # fmt: skip
    spent = Bits(w_bits, a_bits, a_bits)
    return tuple(chain.from_iterable(_bottleneck(block, spent, stage) for block in blocks))


def _bottleneck(b: BottleneckPlan, bits: Bits, stage: int) -> Layers:
    own: dict[str, Any] = {"group": f"stages.{stage}"}
    depthwise = own | {"stride": b.stride, "groups": b.wide}
    layers = (
        ops.conv(f"{b.name}.expand", (b.c_in, b.wide), 1, b.side * b.stride, bits, **own),
        ops.conv(f"{b.name}.dw", (b.wide, b.wide), b.kernel, b.side, bits, **depthwise),
        ops.conv(f"{b.name}.project", (b.wide, b.c_out), 1, b.side, bits, **own),
    )
    if not b.residual:
        return layers
    return (*layers, _sum(f"{b.name}.add", b.side, b.c_out, bits.a, **own))


def _sum(name: str, side: int, channels: int, a_bits: int, **rest: Any) -> LayerSpec:
    elems = side * side * channels
    return ops.elementwise(
        name, "add", elems, elems, extra_in_elems=elems, a_bits=a_bits, out_bits=a_bits, **rest
    )


def _image_ending(geometry: CnnGeometry, resolution: int, width: float) -> Layers:
    last = len(geometry.channels) - 1
    side, head = geometry.side(last, resolution), geometry.head
    pool = ops.elementwise(
        "pool",
        "pool",
        side * side * head,
        head,
        a_bits=_EDGE.out,
        out_bits=_EDGE.out,
        ops_per_element=side * side,
        shape=(side, head, side),
        group="head",
    )
    return (
        ops.conv("head", (geometry.width(last, width), head), 1, side, _EDGE, group="head"),
        pool,
        ops.linear("classifier", 1, head, geometry.outputs, Bits(8, 8, _OUTPUT_BITS), group="head"),
    )


def _pixel_ending(geometry: CnnGeometry, resolution: int, *widths: float) -> Layers:
    """From the coarsest map to the finest, and the logits at the side of the input."""
    head, found, below = geometry.head, list[LayerSpec](), 0
    own: dict[str, Any] = {"group": "head"}
    for stage, width in reversed(list(zip(geometry.lateral, widths, strict=True))):
        side, channels = geometry.side(stage, resolution), (geometry.width(stage, width), head)
        if below:
            found.append(_resize(f"resize.{stage}", below, head, side, _EDGE.out))
        found.append(ops.conv(f"lateral.{stage}", channels, 1, side, _EDGE, **own))
        if below:
            found.append(_sum(f"lateral.{stage}.add", side, head, _EDGE.a, **own))
        below = side
    logits = Bits(8, 8, _OUTPUT_BITS)
    return (
        *found,
        ops.conv("blend", (head, head), 3, below, _EDGE, **own),
        ops.conv("logits", (head, geometry.outputs), 1, below, logits, **own),
        _resize("resize.logits", below, geometry.outputs, resolution, _OUTPUT_BITS),
    )


def _resize(name: str, side: int, channels: int, to: int, bits: int) -> LayerSpec:
    return ops.elementwise(
        name, "resize", side * side * channels, to * to * channels, a_bits=bits, out_bits=bits,
        ops_per_element=4, shape=(side, channels, to), group="head",
    )  # fmt: skip
