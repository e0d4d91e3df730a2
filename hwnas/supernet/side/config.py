"""What a side network is made of, as JSON: blocks that it reads, its cells, and where it adds.

Sources, by the cell:
`low_rank_mixer`: Mercea et al., "Time-, Memory- and Parameter-Efficient Visual Adaptation" (LoSA,
2024). The equations here are a reconstruction from the abstract and captions; nothing in this
package is a figure of that paper.
`lst_block`: Sung, Cho and Bansal, "LST: Ladder Side-Tuning" (2022) and its code.
`res_bypass`: Jiang et al., "Res-Tuning" (2023), the bypass, after the code of its authors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from hwnas.errors import ConfigError
from hwnas.quant.bits import BITS
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["EMBEDDING", "HISTOGRAM", "METHODS", "SideConfig", "heads_of"]

EMBEDDING = -1
"""In a list of blocks: the tokens before the first one, patch embedding plus positions."""

HISTOGRAM = 2 * (len(BITS) + 1)
"""Numbers in a bit histogram: shares of weights, then of inputs, at 2, 3, 4, 6, 8, 32 bits."""

Cell = Literal["low_rank_mixer", "lst_block", "res_bypass"]
_OPTIONS = {
    "cell": ("low_rank_mixer", "lst_block", "res_bypass"),
    "combine": ("add", "gate"),
    "inject": ("before", "after"),
}
_HEAD_DIM = 32  # of the attention in an `lst_block`, at least
_LAST = re.compile(r"last:([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class SideConfig:
    """A side network, but for the sizes of the encoder that it stands beside.

    Attributes:
        cell: One for each tapped block.
        taps: `all` blocks, those with `global` attention, the `last:n`, or a list of indexes.
        combine: How a cell's input joins what came before it: the sum, or
            sigma(a / T) before + (1 - sigma(a / T)) input with a learned number a, 0 at first.
        inject: `before` the neck, so that gradients pass through the neck, which stays as it is;
            or `after` it.
        rank: Inner width of the products of `low_rank_mixer` and `res_bypass`.
        reduction: Width of the encoder by that of an `lst_block`.
        temperature: T of the gate.
        frames: Length of the time axis of `low_rank_mixer`; 0 for images.
        film: Scale and shift features by the bits of the subnet that they come from.

    Raises:
        ConfigError: an option that does not exist, or one that the cell does not have.
    """

    cell: Cell = "low_rank_mixer"
    taps: str | tuple[int, ...] = "all"
    combine: Literal["add", "gate"] = "add"
    inject: Literal["before", "after"] = "before"
    rank: int = 8
    reduction: int = 8
    temperature: float = 0.1
    frames: int = 0
    film: bool = False

    def __post_init__(self) -> None:
        problems = [
            f"{name} {getattr(self, name)!r} is none of {', '.join(options)}"
            for name, options in _OPTIONS.items()
            if getattr(self, name) not in options
        ]
        problems += [
            f"{name} {getattr(self, name)!r} must be a whole number of at least 1"
            for name in ("rank", "reduction")
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1
        ]
        if not self.temperature > 0:
            problems.append(f"temperature {self.temperature} must be above 0")
        if self.frames < 0:
            problems.append(f"frames {self.frames} must be 0 (images) or the length of a clip")
        if self.frames and self.cell != "low_rank_mixer":
            problems.append(f"frames {self.frames}: only low_rank_mixer has a time axis")
        if problems:
            raise ConfigError("side network: " + "; ".join(problems))

    def blocks(self, geometry: SamGeometry) -> tuple[int, ...]:
        """The tapped blocks of an encoder, in order.

        Raises:
            ConfigError: `taps` names no blocks, or others than the encoder has.
        """
        chosen = _chosen(self.taps, geometry)
        if not chosen or list(chosen) != sorted(set(chosen)):
            raise ConfigError(
                f"side network: taps {self.taps!r} of {geometry.name}; expected all, global, "
                "last:n, or a list of block indexes that ascends"
            )
        if chosen[0] < 0 or chosen[-1] >= geometry.depth:
            raise ConfigError(
                f"side network: taps {self.taps!r} reach outside of the {geometry.depth} blocks "
                f"of {geometry.name}; take indexes of 0 to {geometry.depth - 1}"
            )
        return chosen

    def width(self, geometry: SamGeometry) -> int:
        """Channels of what cells hand on.

        Raises:
            ConfigError: the reduction does not divide the encoder's width.
        """
        if self.cell != "lst_block":
            return geometry.dim
        if geometry.dim % self.reduction:
            raise ConfigError(
                f"side network: reduction {self.reduction} does not divide the {geometry.dim} "
                f"channels of {geometry.name}; take a divisor"
            )
        return geometry.dim // self.reduction

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        taps = self.taps if isinstance(self.taps, str) else list(self.taps)
        return asdict(self) | {"taps": taps}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """From `to_dict`; raises ConfigError for anything else."""
        taps = values.get("taps", "all")
        try:
            return cls(**{**values, "taps": taps if isinstance(taps, str) else tuple(taps)})
        except TypeError as error:
            raise ConfigError(
                f"side network: {error}; expected the options of SideConfig"
            ) from error

    def changed(self, **options: Any) -> Self:
        """The same with other options; raises ConfigError for one that does not exist."""
        try:
            found = replace(self, **options)
        except TypeError as error:
            raise ConfigError(f"side network: {error}; expected options of SideConfig") from error
        return found if isinstance(found.taps, str) else replace(found, taps=tuple(found.taps))


METHODS: dict[str, SideConfig] = {
    "losa": SideConfig("low_rank_mixer"),
    "lst": SideConfig("lst_block", combine="gate"),
    "res_bypass": SideConfig("res_bypass", rank=10),
}
"""The three papers' networks by the names that commands use, with their defaults."""


def heads_of(width: int) -> int:
    """Heads of at least 32 channels that divide a width, 1 where it has no more."""
    return max(n for n in range(1, max(1, width // _HEAD_DIM) + 1) if width % n == 0)


def _chosen(taps: str | tuple[int, ...], geometry: SamGeometry) -> tuple[int, ...]:
    if not isinstance(taps, str):
        return taps
    every = tuple(range(geometry.depth))
    if taps == "all":
        return every
    if taps == "global":
        return tuple(i for i in every if not geometry.window_of(i))
    last = _LAST.fullmatch(taps)
    return every[-int(last[1]) :] if last and int(last[1]) <= geometry.depth else ()
