"""Designs that every search starts from and every report shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwnas.space.arch import Arch
from hwnas.space.declarations import Scalar

if TYPE_CHECKING:
    from hwnas.space.space import SearchSpace


def reference_designs(space: SearchSpace) -> list[tuple[str, Arch]]:
    """Return labelled archs: the extremes, then uniform bit-widths.

    A uniform design has the largest option of everything, except that every gene of role "bits"
    takes the option nearest to the bit-width (of two, the larger), at each option of the first gene
    of role "resolution", if there is one. An arch that is two of these is there twice.
    """
    designs = [("largest", space.largest()), ("smallest", space.smallest())]
    designs += [(label, space.decode(space.repair(x[None]))[0]) for label, x in _uniform(space)]
    return designs


def _uniform(space: SearchSpace) -> Iterator[tuple[str, NDArray[np.int64]]]:
    bits = {j: v.options for j, v in enumerate(space.variables) if v.role == "bits"}
    sizes = [(j, v) for j, v in enumerate(space.variables) if v.role == "resolution"]
    for width in sorted({_number(o) for options in bits.values() for o in options}, reverse=True):
        x = space.variable_sizes - 1
        x[list(bits)] = [_nearest(options, width) for options in bits.values()]
        if not sizes:
            yield f"uniform {width:g} bit", x
            continue
        column, gene = sizes[0]
        for index in range(len(gene.options) - 1, -1, -1):
            at = x.copy()
            at[column] = index
            yield f"uniform {width:g} bit, {gene.name} {gene.options[index]}", at


def _number(option: Scalar) -> float:
    return float(option)  # the role admits numbers only


def _nearest(options: tuple[Scalar, ...], width: float) -> int:
    return min(
        range(len(options)),
        key=lambda i: (abs(_number(options[i]) - width), -_number(options[i])),
    )
