"""A space of 3,276 archs, small enough to be searched exhaustively in a moment.

Genes: `resolution`, `depth`, and for each of up to three blocks `blocks.I.width` and
`blocks.I.bits` (weights and activations alike). Its quality is the cost model `toy_quality`.
"""

from __future__ import annotations

from functools import partial

from hwnas.space import SearchSpace, Slot, ordinal, repeat
from hwnas.workload import ops
from hwnas.workload.layers import LayerSpec
from hwnas.workload.ops import Bits

__all__ = ["toy"]

_BLOCKS = 3
_CHANNELS = 64
_PATCH = 8


def toy() -> SearchSpace:
    """Build the space: two dense layers a block on (resolution / 8) squared tokens."""
    return SearchSpace(
        "toy",
        [
            ordinal("resolution", (64, 96, 128, 192), role="resolution"),
            ordinal("depth", range(1, _BLOCKS + 1), role="depth"),
            repeat(
                "blocks",
                _BLOCKS,
                [
                    ordinal("width", (32, 64, 128), role="width"),
                    ordinal("bits", (2, 4, 8), role="bits"),
                ],
                depth="depth",
            ),
        ],
        slots=[
            Slot(
                f"blocks.{index}",
                ("resolution", f"blocks.{index}.width", f"blocks.{index}.bits"),
                partial(_block, f"blocks.{index}"),
                shared="block",
            )
            for index in range(_BLOCKS)
        ],
        extras={"objectives": ("toy_quality", "bitops")},
        description="3,276 archs with closed-form costs, for tests and first steps",
    )


def _block(name: str, resolution: int, width: int, bits: int) -> tuple[LayerSpec, ...]:
    rows = (resolution // _PATCH) ** 2
    both = Bits(bits, bits, bits)
    return (
        ops.linear(f"{name}.up", rows, _CHANNELS, width, both, group=name),
        ops.linear(f"{name}.down", rows, width, _CHANNELS, both, group=name),
    )
