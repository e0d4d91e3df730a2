"""What can stand in a slot of an encoder, and how it is spelled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from hwnas.errors import SpaceError
from hwnas.workload.sam_geometry import SamGeometry

__all__ = [
    "BITS",
    "FLOAT",
    "KINDS",
    "BlockOption",
    "Kind",
    "all_options",
    "heads_of",
    "kept_blocks",
    "option_of",
    "slot_gene",
    "teacher_option",
]

Kind = Literal["conv", "window", "vit"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Blocks with a depthwise convolution in place of attention; blocks that attend within windows
only; blocks as the teacher has them."""

FLOAT = "fp16"
BITS: dict[str, tuple[int, int]] = {"w4a4": (4, 4), "w4a8": (4, 8), "w8a8": (8, 8), FLOAT: (16, 16)}
"""Bits of weights and of inputs of linear layers, by name; 16 is floating point."""

RATIOS = (2, 3, 4)
_NAME = re.compile(r"(?P<kind>[a-z]+)-d(?P<depth>\d+)-r(?P<ratio>\d+)-(?P<bits>\w+)")


@dataclass(frozen=True, slots=True)
class BlockOption:
    """One candidate for a slot.

    Attributes:
        kind: See `KINDS`.
        depth: Blocks in the slot.
        ratio: Width of the MLP over that of the residual stream; the number of heads follows it.
        bits: A name of `BITS`.
    """

    kind: Kind
    depth: int
    ratio: int
    bits: str

    @property
    def name(self) -> str:
        """The spelling in genes and files: `vit-d3-r4-w8a8`."""
        return f"{self.kind}-d{self.depth}-r{self.ratio}-{self.bits}"

    @property
    def in_float(self) -> BlockOption:
        """The same shape with nothing quantized."""
        return replace(self, bits=FLOAT)

    @property
    def shape(self) -> str:
        """Kind, depth and ratio: what all of its bit-widths have in common."""
        return self.name.rpartition("-")[0]

    @property
    def w_bits(self) -> int:
        """Bits of weights."""
        return BITS[self.bits][0]

    @property
    def a_bits(self) -> int:
        """Bits of the inputs of linear layers."""
        return BITS[self.bits][1]


def option_of(name: str) -> BlockOption:
    """Read a name back.

    Raises:
        SpaceError: it names no option.
    """
    found = _NAME.fullmatch(name)
    kind = next((k for k in KINDS if found and k == found["kind"]), None)
    if found is None or kind is None or found["bits"] not in BITS:
        raise SpaceError(
            f"{name!r} is no option of a slot; expected KIND-dDEPTH-rRATIO-BITS with a kind of "
            f"{', '.join(KINDS)} and bits of {', '.join(BITS)}, such as vit-d3-r4-w8a8"
        )
    return BlockOption(kind, int(found["depth"]), int(found["ratio"]), found["bits"])


def all_options(geometry: SamGeometry) -> tuple[BlockOption, ...]:
    """Every option of a slot; the teacher's own is the last."""
    depths = range(1, len(geometry.stage_blocks(0)) + 1)
    return tuple(
        BlockOption(kind, depth, ratio, bits)
        for kind in KINDS
        for depth in depths
        for ratio in RATIOS
        for bits in BITS
    )


def teacher_option(geometry: SamGeometry) -> BlockOption:
    """The option that is the teacher itself."""
    return BlockOption("vit", len(geometry.stage_blocks(0)), geometry.mlp_ratio, FLOAT)


def heads_of(geometry: SamGeometry, option: BlockOption) -> int:
    """Attention heads of an option: the widest MLP has the most, the narrowest the fewest."""
    heads, place = geometry.heads_options, RATIOS.index(option.ratio)
    return heads[round(place * (len(heads) - 1) / (len(RATIOS) - 1))]


def kept_blocks(keep_order: Sequence[int], depth: int) -> tuple[int, ...]:
    """The teacher's blocks that a slot of some depth starts from, in the order of running.

    `keep_order` lists the blocks of the slot from the last one dropped to the first one dropped.

    Raises:
        SpaceError: the slot has fewer blocks.
    """
    if not 1 <= depth <= len(keep_order):
        raise SpaceError(f"depth {depth}: the slot has 1 to {len(keep_order)} blocks")
    return tuple(sorted(keep_order[:depth]))


def slot_gene(slot: int) -> str:
    """Name of the gene that chooses the option of a slot."""
    return f"slots.{slot}.block"
