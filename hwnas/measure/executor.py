"""From a program to something that runs: bytecode over cached kernels, nothing else compiled.

The bytecode is TVM's Relax virtual machine; it finds the kernels by their symbols in the libraries
that are imported beside it. A call costs about 0.7 us, and 300 calls compile in 0.1 s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.program import Constant, Part, Program, chained, repeated

if TYPE_CHECKING:
    from hwnas.measure.builder import Builder

__all__ = ["MAIN", "Constants", "Executor", "export", "link"]

Array = np.ndarray[Any, Any]

MAIN: Final = "main"
_CACHED_BYTES: Final = 2**31


class Executor:
    """Assembles programs from a builder's kernels."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._parts: dict[Kernel, Part] = {}
        self._kernels: dict[str, Kernel] = {}

    @property
    def target(self) -> Any:
        """The `tvm.target.Target` that the kernels are for."""
        return self._builder.target

    def assemble(self, kernels: Sequence[Kernel]) -> Program:
        """Run `kernels` one after another; each is built or found in the cache.

        Raises:
            DeviceError: a kernel cannot be built, or computes wrong numbers.
        """
        return chained([self.part(kernel) for kernel in kernels])

    def repeat(self, kernel: Kernel, times: int) -> Program:
        """Run `kernel` so many times, each time with constants of its own.

        Raises:
            DeviceError: it cannot be built, or computes wrong numbers.
        """
        return repeated(self.part(kernel), times)

    def part(self, kernel: Kernel) -> Part:
        """Build `kernel`, or take it from the cache."""
        if kernel not in self._parts:
            built, problem = self._builder.build(kernel), self._builder.problem(kernel)
            self._kernels[built.symbol] = kernel
            self._parts[kernel] = Part(
                built.symbol,
                tuple(array.size for array in problem.inputs),
                tuple(Constant(a.size, str(a.dtype)) for a in problem.constants),
                problem.output,
                built.library,
                built.object,
            )
        return self._parts[kernel]

    def drawn(self, symbol: str) -> Sequence[Array]:
        """Draw the constants of a part that was assembled before."""
        return self._builder.problem(self._kernels[symbol]).constants


def link(program: Program, target: Any) -> Any:
    """Return a `tvm.runtime.Module` for a virtual machine in this process.

    Raises:
        DeviceError: a kernel was built for another machine.
    """
    import tvm

    foreign = sorted({call.function for call in program.calls} - set(program.libraries))
    if foreign:
        raise DeviceError(
            f"{foreign[0]} has no library, its target is another machine; time it by --rpc"
        )
    module = _bytecode(program, target).mod
    for path in dict.fromkeys(program.libraries.values()):
        module.import_module(tvm.runtime.load_module(str(path)))
    return module


def export(program: Program, target: Any, path: Path, linker: Any = None) -> None:
    """Link a program with its kernels into one library that any TVM runtime loads.

    Args:
        program: What it runs.
        target: `tvm.target.Target` of the kernels.
        path: `.so`, linked here, or `.tar`, linked where it is loaded.
        linker: For another machine, `tvm.support.cc.cross_compiler("aarch64-linux-gnu-gcc")` say;
            None: this machine's.

    Raises:
        DeviceError: a kernel has no object file.
    """
    import tvm

    missing = sorted({call.function for call in program.calls} - set(program.objects))
    if missing:
        raise DeviceError(f"{missing[0]} has no object file to link; build it for a CPU target")
    executable = _bytecode(program, target)
    for symbol, file in program.objects.items():
        executable.mod.import_module(tvm.runtime.load_static_library(str(file), [symbol]))
    executable.export_library(str(path), fcompile=None if path.suffix == ".tar" else linker)


def _bytecode(program: Program, target: Any) -> Any:
    import tvm

    return tvm.compile(_relax(program), target=target)


def _relax(program: Program) -> Any:
    """Write the program as a Relax function of its inputs and constants, in their order.

    Bindings stand outside a dataflow block, or calls whose result nobody reads would be dropped.
    """
    from tvm import relax

    builder = relax.BlockBuilder()
    values = {name: _var(name, elems, "float32") for name, elems in program.inputs.items()}
    values |= {name: _var(name, c.elems, c.dtype) for name, c in program.constants.items()}
    sizes = program.sizes()
    with builder.function(MAIN, list(values.values())):
        for call in program.calls:
            inputs = [
                values[name]
                if sizes[name] == elems
                else builder.emit(relax.op.memory.view(values[name], (elems,), "float32", 0))
                for name, elems in call.inputs
            ]
            constants = [values[name] for name in call.constants]
            written = relax.call_dps_packed(
                call.function, [*inputs, *constants], relax.TensorType((call.elems,), "float32")
            )
            values[call.output] = builder.emit(written)
            sizes[call.output] = call.elems
        outputs = [values[name] for name in program.outputs]
        builder.emit_func_output(outputs[0] if len(outputs) == 1 else relax.Tuple(outputs))
    return builder.get()


def _var(name: str, elems: int, dtype: str) -> Any:
    from tvm import relax

    return relax.Var(name, relax.TensorType((elems,), dtype))


class Constants:
    """Arguments on a device, kept from one program to the next.

    The first copy of a kernel's constants is drawn and sent; the others are copied on the device,
    so that a network of equal layers costs one transfer.

    Args:
        device: A `tvm.runtime.Device`, here or behind RPC.
        limit_bytes: All are freed before a program that would hold more than this.
    """

    def __init__(self, device: Any, limit_bytes: int = _CACHED_BYTES) -> None:
        self._device, self._limit = device, limit_bytes
        self._held: dict[tuple[str, int], list[Any]] = {}
        self._input: Any = None

    def arguments(self, program: Program, drawn: Callable[[str], Sequence[Array]]) -> list[Any]:
        """Return the tensors of a program: its inputs, then its constants.

        Args:
            program: What they are for.
            drawn: Gives one kernel's constants, by its symbol.
        """
        wanted = sum(_size(constant) for constant in program.constants.values())
        held = sum(_bytes(tensor) for copy in self._held.values() for tensor in copy)
        if held + wanted > self._limit:
            self._held.clear()
        given = [self._activation(elems) for elems in program.inputs.values()]
        used: dict[str, int] = {}
        tensors: dict[str, Any] = {}
        for call in program.calls:
            number = used.get(call.function, 0)
            used[call.function] = number + 1
            copy = self._copy(call.function, number, drawn)
            tensors |= zip(call.constants, copy, strict=True)
        return given + [tensors[name] for name in program.constants]

    def _copy(self, symbol: str, number: int, drawn: Callable[[str], Sequence[Array]]) -> list[Any]:
        import tvm

        key = (symbol, number)
        if key not in self._held:
            if number == 0:
                self._held[key] = [tvm.runtime.tensor(a, self._device) for a in drawn(symbol)]
            else:
                first = self._copy(symbol, 0, drawn)
                copies = [tvm.runtime.empty(t.shape, t.dtype, self._device) for t in first]
                for source, copy in zip(first, copies, strict=True):
                    source.copyto(copy)
                self._held[key] = copies
        return self._held[key]

    def _activation(self, elems: int) -> Any:
        import tvm

        if self._input is None or self._input.shape[0] != elems:
            values = np.random.default_rng(0).standard_normal(elems, np.float32)
            self._input = tvm.runtime.tensor(values, self._device)
        return self._input


def _size(constant: Constant) -> int:
    return constant.elems * np.dtype(constant.dtype).itemsize


def _bytes(tensor: Any) -> int:
    return int(np.prod(tensor.shape)) * np.dtype(str(tensor.dtype)).itemsize
