"""Writing a program with real constants, step by step along the measured one.

A program that is timed and one that is exported come from the same list of steps
(`hwnas.measure.lowering`) and the same kernels; `ProgramWriter` hands out the steps in their order,
and a caller says which buffers a step reads and what its constants are. What the measured network
lacks has to be added by name, so the difference is on record (`BoundProgram.added`, `changed`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hwnas.errors import DeviceError
from hwnas.measure.builder import Builder
from hwnas.measure.executor import Executor
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.family import Array
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.lowering import Step
from hwnas.measure.program import Call, Constant, Part, Program

__all__ = ["BoundCall", "BoundProgram", "ProgramWriter"]

Constants = Callable[[Kernel, Isa], Sequence[Array]]
_FLOATS: Final = "float32"


@dataclass(frozen=True, slots=True)
class BoundCall:
    """What one call of a program computes.

    Attributes:
        layer: Name of the (first) layer, and of the buffer that the call fills.
        kernel: What runs.
        measured: The kernel of the measured network at this place; None for a call that it lacks.
    """

    layer: str
    kernel: Kernel
    measured: Kernel | None


@dataclass(frozen=True)
class BoundProgram:
    """A program with the values of its constants; `calls` are in the order of `program.calls`."""

    program: Program
    values: Mapping[str, Array]
    calls: tuple[BoundCall, ...]

    @property
    def added(self) -> tuple[BoundCall, ...]:
        """Calls that the measured network lacks."""
        return tuple(call for call in self.calls if call.measured is None)

    @property
    def changed(self) -> tuple[BoundCall, ...]:
        """Calls whose kernel is another one than in the measured network."""
        return tuple(call for call in self.calls if call.measured not in (None, call.kernel))


class ProgramWriter:
    """Writes one program along the steps of a network.

    Args:
        builder: Builds the kernels.
        steps: What the network runs; all of them must be used, in this order.
    """

    def __init__(self, builder: Builder, steps: Sequence[Step]) -> None:
        self.isa = builder.isa
        self._executor, self._steps = Executor(builder), deque(steps)
        self._inputs: dict[str, int] = {}
        self._values: dict[str, Array] = {}
        self._declared: dict[str, Constant] = {}
        self._parts: list[Part] = []
        self._calls: list[Call] = []
        self._bound: list[BoundCall] = []

    def input(self, name: str, elems: int) -> str:
        """Declare an activation that the caller fills."""
        self._inputs[name] = elems
        return name

    def table(self, name: str, values: Array) -> str:
        """Declare a constant that kernels read like an activation."""
        flat = np.ascontiguousarray(values, np.float32).ravel()
        self._declare(name, flat, Constant(flat.size, _FLOATS))
        return name

    def step(self, layer: str) -> Kernel:
        """Take the next step, which must compute `layer`, and return its kernel.

        Raises:
            DeviceError: the network does something else there.
        """
        expected = self._steps[0].layers[0] if self._steps else "nothing more"
        if expected != layer:
            raise DeviceError(
                f"the subnet runs {layer!r} where the measured network runs {expected!r}; the "
                "workload of its space and its module do not describe the same network"
            )
        return self._steps.popleft().kernel

    def run(self, layer: str, inputs: Sequence[str], constants: Constants | None = None) -> str:
        """Take the step of `layer` and call its kernel as it is; returns the name of its output."""
        kernel = self.step(layer)
        return self.call(layer, kernel, inputs, constants, measured=kernel)

    def call(
        self, layer: str, kernel: Kernel, inputs: Sequence[str],
        constants: Constants | None = None, *, measured: Kernel | None = None,
    ) -> str:  # fmt: skip
        """Call a kernel; `measured` is that of the step that it stands for, None for an addition.

        Raises:
            DeviceError: it cannot be built, or its constants have other sizes than the kernel's.
        """
        part = self._executor.part(kernel)
        given = () if constants is None else tuple(constants(kernel, self.isa))
        found = tuple(Constant(value.size, str(value.dtype)) for value in given)
        if found != part.constants or len(inputs) != len(part.inputs):
            raise DeviceError(
                f"{layer}: {kernel.key} takes {len(part.inputs)} inputs and {part.constants}, got "
                f"{len(inputs)} and {found}; the subnet and its workload differ in shape"
            )
        names = tuple(f"{layer}.{i}" for i in range(len(given)))
        for name, value, constant in zip(names, given, part.constants, strict=True):
            self._declare(name, value, constant)
        read = tuple(zip(inputs, part.inputs, strict=True))
        self._calls.append(Call(part.function, read, names, layer, part.output))
        self._parts.append(part)
        self._bound.append(BoundCall(layer, kernel, measured))
        return layer

    def size(self, kernel: Kernel) -> int:
        """Scalars of a kernel's first input."""
        return self._executor.part(kernel).inputs[0]

    def finish(self, outputs: Sequence[str]) -> BoundProgram:
        """Return what was written.

        Raises:
            DeviceError: steps of the measured network are left.
        """
        if self._steps:
            left = ", ".join(step.layers[0] for step in self._steps)
            raise DeviceError(f"the subnet does not run what the measured network runs: {left}")
        parts = {part.function: part for part in self._parts}
        program = Program(
            self._inputs, self._declared, tuple(self._calls), tuple(outputs),
            {name: part.library for name, part in parts.items() if part.library is not None},
            {name: part.object for name, part in parts.items() if part.object is not None},
        )  # fmt: skip
        return BoundProgram(program, self._values, tuple(self._bound))

    def _declare(self, name: str, value: Array, constant: Constant) -> None:
        if name in self._values:
            raise DeviceError(f"the constant {name!r} is declared twice; give each its own name")
        self._values[name], self._declared[name] = value, constant
