"""Running a program call by call in this process, to see every buffer.

The same libraries as in the exported module, without its bytecode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hwnas.errors import DeviceError
from hwnas.export.tvm.writer import BoundProgram
from hwnas.measure.kernels.family import Array

__all__ = ["interpret"]


def interpret(
    bound: BoundProgram,
    inputs: Mapping[str, Array],
    *,
    given: Callable[[str], Array | None] = lambda _: None,
) -> dict[str, Array]:
    """Return every buffer of a program, flat, by its name.

    Args:
        bound: The program, built for this machine.
        inputs: Values of its inputs, flat or not.
        given: What a call reads in place of a buffer that was computed, by its name; None: that
            buffer. It tells how far one layer alone is from a reference.

    Raises:
        DeviceError: the kernels are for another machine.
    """
    import tvm

    program = bound.program
    foreign = sorted({call.function for call in program.calls} - set(program.libraries))
    if foreign:
        raise DeviceError(f"{foreign[0]} was built for another machine; run the module there")
    modules: dict[str, Any] = {
        symbol: tvm.runtime.load_module(str(path))[symbol]
        for symbol, path in program.libraries.items()
    }
    tensors = {name: tvm.runtime.tensor(value) for name, value in bound.values.items()}
    known = {n: np.ascontiguousarray(v, np.float32).ravel() for n, v in inputs.items()}
    for call in program.calls:
        read = []
        for name, elems in call.inputs:
            replaced = given(name)
            value = known.get(name, bound.values.get(name)) if replaced is None else replaced
            assert value is not None
            read.append(tvm.runtime.tensor(np.ascontiguousarray(value, np.float32).ravel()[:elems]))
        output = tvm.runtime.tensor(np.zeros(call.elems, np.float32))
        modules[call.function](*read, *(tensors[name] for name in call.constants), output)
        known[call.output] = output.numpy()
    return known
