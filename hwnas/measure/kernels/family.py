"""What every family of kernels offers: code, random arguments, and the right answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.isa import Isa

__all__ = ["Array", "Family", "Problem"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Problem:
    """Arguments of a kernel with what it must return for them.

    Every array is one-dimensional. A kernel is called with the inputs, the constants and the
    output, in this order, and writes the output.

    Attributes:
        inputs: Activations, float32.
        constants: Weights as the kernel wants them, scales, biases, tables.
        output: Scalars of the output, float32.
        expected: Computes the output in float64, or exactly in integers before the last scaling.
        tolerance: Largest allowed error relative to the largest expected magnitude.
    """

    inputs: tuple[Array, ...]
    constants: tuple[Array, ...]
    output: int
    expected: Callable[[], Array]
    tolerance: float = 1e-5


@dataclass(frozen=True)
class Family:
    """Kernels of one kind.

    Attributes:
        emit: Writes the function for a vector unit.
        problem: Draws arguments.
    """

    emit: Callable[[Kernel, Isa], Any]
    problem: Callable[[Kernel, Isa, np.random.Generator], Problem]
