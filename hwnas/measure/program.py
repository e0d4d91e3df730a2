"""A network as calls of compiled kernels on named buffers: what is measured, and later exported.

Every buffer is flat. Activations are float32, and an input may be the beginning of a longer
buffer; a kernel that needs another part of one has to read the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hwnas.errors import DeviceError

__all__ = ["Call", "Constant", "Part", "Program", "chained", "repeated"]

_ALIVE: Final = 4
_INPUT: Final = "x"


@dataclass(frozen=True, slots=True)
class Constant:
    """A weight, scale or table: so many scalars of a data type."""

    elems: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Call:
    """One kernel: it reads inputs and constants and writes its output.

    Attributes:
        function: Symbol of the compiled function.
        inputs: Names of activations, and how many scalars of each it reads; a float32 constant may
            stand for an activation, as a table does that is added to one.
        constants: Names of constants, in the order of the kernel's arguments.
        output: Name of the buffer that it fills; a name is filled once.
        elems: Scalars of the output.
    """

    function: str
    inputs: tuple[tuple[str, int], ...]
    constants: tuple[str, ...]
    output: str
    elems: int


@dataclass(frozen=True)
class Program:
    """Calls in the order in which they run.

    Attributes:
        inputs: Scalars of each activation that the caller fills.
        constants: Every constant by its name.
        calls: What runs.
        outputs: Buffers that are returned.
        libraries: By symbol, the shared library of one kernel, where the target's linker is here.
        objects: By symbol, the object file that an exported library is linked from.

    Raises:
        DeviceError: a call reads what nobody wrote, or more of it than there is.
    """

    inputs: Mapping[str, int]
    constants: Mapping[str, Constant]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]
    libraries: Mapping[str, Path] = field(default_factory=dict)
    objects: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = self.sizes()
        for call in self.calls:
            for name, elems in call.inputs:
                if sizes.get(name, 0) < elems:
                    raise DeviceError(
                        f"{call.function} reads {elems} scalars of {name!r}, which has "
                        f"{sizes.get(name, 'not been written yet')}; write it before"
                    )
            unknown = [name for name in call.constants if name not in self.constants]
            if unknown or call.output in sizes:
                problem = f"the constants {unknown}" if unknown else f"{call.output!r} again"
                raise DeviceError(
                    f"{call.function} uses {problem}; declare each constant, write a buffer once"
                )
            sizes[call.output] = call.elems
        missing = [name for name in self.outputs if name not in sizes]
        if missing:
            raise DeviceError(f"nobody writes the outputs {missing}; known: {sorted(sizes)}")

    def sizes(self) -> dict[str, int]:
        """Scalars of everything that the first call may read."""
        constants = {n: c.elems for n, c in self.constants.items() if c.dtype == "float32"}
        return {**self.inputs, **constants}


@dataclass(frozen=True)
class Part:
    """What a program needs to know of a compiled kernel.

    Attributes:
        function: Its symbol.
        inputs: Scalars of each activation.
        constants: Its constants, in the order of its arguments.
        output: Scalars of its output.
        library: Of the kernel alone; None where the target's linker is missing.
        object: To link from; None where the target has no object files.
    """

    function: str
    inputs: tuple[int, ...]
    constants: tuple[Constant, ...]
    output: int
    library: Path | None
    object: Path | None


def chained(parts: Sequence[Part]) -> Program:
    """Run parts one after another, each on what was written last, for its time alone.

    An input is the latest of the last four outputs that is as long as it or longer, so that
    caches are as warm as in the network; what finds none reads the caller's `x`. The numbers
    mean nothing. Every call has constants of its own, as every layer has.
    """
    calls: list[Call] = []
    constants: dict[str, Constant] = {}
    alive: list[tuple[str, int]] = []
    longest = max((size for part in parts for size in part.inputs), default=1)
    for number, part in enumerate(parts):
        inputs = _latest(part.inputs, alive, longest)
        names = tuple(f"c{number}_{i}" for i in range(len(part.constants)))
        constants |= zip(names, part.constants, strict=True)
        calls.append(Call(part.function, inputs, names, f"t{number}", part.output))
        alive = [(f"t{number}", part.output), *alive[: _ALIVE - 1]]
    return _program(parts, calls, constants, longest)


def repeated(part: Part, times: int) -> Program:
    """Run one part some times on the same inputs, each time with other constants."""
    names = [tuple(f"c{n}_{i}" for i in range(len(part.constants))) for n in range(times)]
    constants = {
        name: constant for own in names for name, constant in zip(own, part.constants, strict=True)
    }
    longest = max(part.inputs, default=1)
    inputs = tuple((_INPUT, size) for size in part.inputs)
    calls = [Call(part.function, inputs, own, f"t{n}", part.output) for n, own in enumerate(names)]
    return _program([part], calls, constants, longest)


def _latest(
    sizes: Sequence[int], alive: Sequence[tuple[str, int]], longest: int
) -> tuple[tuple[str, int], ...]:
    """Find a buffer for each input, another one for each as far as there are any."""
    free = list(alive)
    found = []
    for size in sizes:
        fitting = [buffer for buffer in free if buffer[1] >= size]
        exact = [buffer for buffer in fitting if buffer[1] == size]
        best = (exact or fitting or [(_INPUT, longest)])[0]
        free = [buffer for buffer in free if buffer != best]
        found.append((best[0], size))
    return tuple(found)


def _program(
    parts: Sequence[Part], calls: Sequence[Call], constants: Mapping[str, Constant], longest: int
) -> Program:
    return Program(
        {_INPUT: longest},
        constants,
        tuple(calls),
        (calls[-1].output,) if calls else (),
        {part.function: part.library for part in parts if part.library is not None},
        {part.function: part.object for part in parts if part.object is not None},
    )
