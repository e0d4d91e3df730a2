"""What a study measures: architectures along each axis, pairs of axes, and single changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from hwnas.cost.bitops_report import bitops_report
from hwnas.errors import ConfigError
from hwnas.space import Arch, Scalar, SearchSpace
from hwnas.space.axes import SAM_AXES, Axis, arch_with, axis_settings, axis_values
from hwnas.space.derived import optional_axes, with_axes
from hwnas.space.messages import nearest

__all__ = ["Plan", "SingleChange", "Slice"]


@dataclass(frozen=True)
class Slice:
    """One axis at one value, or a pair of them, all else at its largest.

    `forced` are kinds of genes that constraints lowered as well; BitOPs are the encoder's.
    """

    axis: Axis
    value: Scalar
    arch: Arch
    settings: dict[str, Scalar]
    bitops: int
    system_bitops: int
    forced: tuple[str, ...] = ()


@dataclass(frozen=True)
class SingleChange:
    """One bit-width gene at a lower option, all else at its largest."""

    gene: str
    option: int
    arch: Arch

    @property
    def block(self) -> int:
        """Physical block."""
        return int(self.gene.split(".")[1])

    @property
    def operand(self) -> str:
        """Layer and operand: `qkv.w`, `lin2.a`, `attn`."""
        return self.gene.split(".", 2)[2].removesuffix("_bits")


class Plan:
    """The axes of a space and the architectures on them.

    Slices of the space's own axes are architectures of the space itself, so that their ids are the
    same as in a search; those of optional axes belong to the space with these axes added.

    Raises:
        ConfigError: `axes` names one that the space does not have.
    """

    def __init__(self, space: SearchSpace, axes: Sequence[str] = ()) -> None:
        self.space = space
        extra = optional_axes(space)
        self.wide = with_axes(space, extra) if extra else space
        known = [axis for axis in SAM_AXES if len(axis_values(self.wide, axis)) > 1]
        names = [axis.name for axis in known]
        wrong = [name for name in axes if name not in names]
        if wrong:
            raise ConfigError(
                f"--axis {', '.join(wrong)}: the space {space.name} has no such axis with two "
                f"options or more{nearest(wrong[0], names)}"
            )
        if not known:
            raise ConfigError(
                f"the space {space.name} has none of the axes that are studied "
                f"({', '.join(axis.name for axis in SAM_AXES)}); give a space over SAM"
            )
        self.axes = tuple(axis for axis in known if not axes or axis.name in axes)
        self.largest = space.largest()
        self._bitops = cache(self._count)

    def maximum(self) -> Slice:
        """The largest architecture."""
        return self._slice(self.axes[0], axis_values(self.wide, self.axes[0])[0], {})

    def slices(self) -> list[Slice]:
        """Every axis at every value but its largest."""
        return [
            self._slice(axis, value, axis_settings(self.wide, axis, value))
            for axis in self.axes
            for value in axis_values(self.wide, axis)[1:]
        ]

    def pair(self, one: Slice, other: Slice) -> Slice:
        """Both slices at once, filed under the first."""
        return self._slice(one.axis, one.value, {**one.settings, **other.settings})

    def contexts(self, one: Slice, n: int, seed: int) -> list[tuple[Arch, Arch]]:
        """Random architectures without and with a slice: (axis at its largest, axis at the value).

        The same draws serve every value of every axis of a space; those that a constraint forbids
        are left out.
        """
        space = self._space_of(one.settings)
        drawn = space.sample(np.random.default_rng(seed), n)
        largest = axis_settings(space, one.axis, axis_values(space, one.axis)[0])
        pairs = [(_with(space, a, largest), _with(space, a, one.settings)) for a in drawn]
        return [(a, b) for a, b in pairs if a is not None and b is not None]

    def changes(self) -> list[SingleChange]:
        """Every bit-width gene of the largest network at each of its lower options."""
        top = self.largest.genes
        return [
            SingleChange(g.name, int(option), self.space.arch({**top, g.name: option}))
            for g in self.space.genes
            if g.role == "bits" and g.name in top and g.name.startswith("blocks.")
            for option in reversed(g.options[:-1])
        ]

    def bitops(self, arch: Arch) -> tuple[int, int]:
        """BitOPs of the encoder and of encoder and decoder with one prompt."""
        return self._bitops(arch)

    def _space_of(self, settings: dict[str, Scalar]) -> SearchSpace:
        own = {gene.name for gene in self.space.genes}
        return self.space if settings.keys() <= own else self.wide

    def _slice(self, axis: Axis, value: Scalar, settings: dict[str, Scalar]) -> Slice:
        arch = arch_with(self._space_of(settings), settings)
        return Slice(axis, value, arch, settings, *self.bitops(arch), self._forced(arch, settings))

    def _forced(self, arch: Arch, settings: dict[str, Scalar]) -> tuple[str, ...]:
        moved = [
            name
            for name, value in arch.genes.items()
            if name not in settings and self.largest.get(name, value) != value
        ]
        kinds = (".".join("*" if p.isdigit() else p for p in name.split(".")) for name in moved)
        return tuple(dict.fromkeys(kinds))

    def _count(self, arch: Arch) -> tuple[int, int]:
        space = self.space if arch.genes.keys() <= {g.name for g in self.space.genes} else self.wide
        report = bitops_report(space, arch)
        return report.encoder_bitops, report.system_bitops


def _with(space: SearchSpace, arch: Arch, settings: dict[str, Scalar]) -> Arch | None:
    """The arch with some genes set, new blocks at their largest; None if that is forbidden."""
    genes = {**space.largest().genes, **arch.genes, **settings}
    return None if space.validate(genes) else space.arch(genes)
