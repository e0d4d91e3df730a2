"""Networks of inverted bottlenecks once every choice is taken; costs and weights read it.

A stem, some stages of bottlenecks, and an ending: a classifier of the image, or one of each pixel
that adds up the maps of all sides (lateral 1 x 1 convolutions, the deeper map resized and added).

Sources: inverted bottlenecks, MobileNetV2 (Sandler et al., 2018); the layout of `mobile-cnn`,
MobileNetV3 as searched by OFA, without squeeze-and-excite; lateral sums, Lin et al., "Feature
pyramid networks" (2017), with bilinear instead of nearest neighbors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from hwnas.errors import ArchError

__all__ = ["CNNS", "BottleneckPlan", "CnnGeometry", "CnnPlan", "plan_of", "stage_plan"]

_CHANNEL_STEP = 8  # channels come in multiples of this, as integer kernels like them
_STEM_STRIDE = 2


class HasGenes(Protocol):
    """An `Arch`, as far as a plan reads it."""

    @property
    def genes(self) -> Mapping[str, object]: ...


@dataclass(frozen=True, slots=True)
class CnnGeometry:
    """What all networks of a space share.

    Attributes:
        name: That of the space.
        stem: Channels of the stem, which halves the map.
        channels: Of each stage at width 1.
        strides: Of the first block of each stage.
        ending: `image` says one thing of an image, `pixels` one of each pixel.
        head: Channels of the ending.
        outputs: Numbers that it gives.
    """

    name: str
    stem: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    ending: Literal["image", "pixels"]
    head: int
    outputs: int

    def side(self, stage: int, resolution: int) -> int:
        """Side of a stage's map; that of the stem's is stage -1."""
        return resolution // _STEM_STRIDE // math.prod(self.strides[: stage + 1])

    def width(self, stage: int, times: float) -> int:
        """Channels of a stage at `times` its own; the stem's for stage -1."""
        if stage < 0:
            return self.stem
        steps = round(self.channels[stage] * times / _CHANNEL_STEP)
        return max(1, steps) * _CHANNEL_STEP

    @property
    def lateral(self) -> tuple[int, ...]:
        """The last stage of each side, from the finest map to the coarsest."""
        last = len(self.strides) - 1
        return tuple(i for i in range(last + 1) if i == last or self.strides[i + 1] > 1)


CNNS: dict[str, CnnGeometry] = {
    geometry.name: geometry
    for geometry in (
        CnnGeometry("mobile-cnn", 16, (24, 40, 80, 112, 160), (2, 2, 2, 1, 2), "image", 960, 1000),
        CnnGeometry("tile-cnn", 8, (16, 24, 40, 64), (2, 2, 1, 2), "image", 128, 4),
        CnnGeometry("tile-cnn-mask", 8, (16, 24, 40, 64), (2, 2, 1, 2), "pixels", 24, 2),
    )
}
"""The layouts that have a space, by its name."""


@dataclass(frozen=True, slots=True)
class BottleneckPlan:
    """Sizes of one inverted bottleneck; `side` is that of its output, in pixels."""

    name: str
    c_in: int
    c_out: int
    expansion: int
    kernel: int
    stride: int
    side: int

    @property
    def wide(self) -> int:
        """Channels between its 1 x 1 convolutions."""
        return self.c_in * self.expansion

    @property
    def residual(self) -> bool:
        """Whether its input is added to its output."""
        return self.stride == 1 and self.c_in == self.c_out


@dataclass(frozen=True, slots=True)
class CnnPlan:
    """One network at one input resolution in pixels: the bottlenecks of each stage."""

    geometry: CnnGeometry
    resolution: int
    stages: tuple[tuple[BottleneckPlan, ...], ...]

    def c_out(self, stage: int) -> int:
        """Channels of a stage's map."""
        return self.stages[stage][-1].c_out


def stage_plan(
    geometry: CnnGeometry, stage: int, resolution: int, *, before: float, depth: int, kernel: int,
    expansion: int, width: float,
) -> tuple[BottleneckPlan, ...]:  # fmt: skip
    """The bottlenecks of a stage; `before` is the width of the stage before, any for the first."""
    c_out, c_in = geometry.width(stage, width), geometry.width(stage - 1, before)
    side = geometry.side(stage, resolution)
    return tuple(
        BottleneckPlan(
            f"stages.{stage}.{index}", c_out if index else c_in, c_out, expansion, kernel,
            stride=1 if index else geometry.strides[stage], side=side,
        )
        for index in range(depth)
    )  # fmt: skip


def plan_of(arch: HasGenes, geometry: CnnGeometry) -> CnnPlan:
    """Read the plan off the genes of an arch; bits are no part of it.

    Genes are `resolution` and `stages.I.depth`, `.kernel`, `.expansion`, `.width`.

    Raises:
        ArchError: a gene is missing, or no number.
    """
    genes, resolution = arch.genes, int(_number(arch.genes, "resolution"))
    stages, before = [], 1.0
    for stage in range(len(geometry.channels)):
        depth, kernel, expansion, width = (
            _number(genes, f"stages.{stage}.{name}")
            for name in ("depth", "kernel", "expansion", "width")
        )
        stages.append(
            stage_plan(
                geometry, stage, resolution, before=before, depth=int(depth), kernel=int(kernel),
                expansion=int(expansion), width=width,
            )
        )  # fmt: skip
        before = width
    return CnnPlan(geometry, resolution, tuple(stages))


def _number(genes: Mapping[str, object], name: str) -> float:
    value = genes.get(name)
    if not isinstance(value, int | float):
        raise ArchError(f"gene {name} is {value!r}; a network of bottlenecks needs a number there")
    return value
