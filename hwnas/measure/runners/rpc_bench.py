"""Times TVM kernels on another machine, where a TVM RPC server runs."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from hwnas.device.lookup import from_dict
from hwnas.errors import DeviceError
from hwnas.measure.builder import Builder, linker_of
from hwnas.measure.executor import MAIN, Constants, Executor, export
from hwnas.measure.kernel import Kernel
from hwnas.measure.numerics import check_result
from hwnas.measure.program import Program
from hwnas.measure.runners.bench import ConnectionLost, Ready
from hwnas.measure.runners.copies import cold_bytes_of, copies_of
from hwnas.measure.runners.reference import REFERENCE, SIDE, reference_module
from hwnas.measure.runners.seam import Network
from hwnas.measure.runners.session import Address, connected
from hwnas.measure.samples import Sample, Timed

__all__ = ["RpcBench"]

_REPEATS: Final = 5  # of one request: the server runs once more to warm up
_RPC_KINDS: Final = {"llvm": "cpu"}


class RpcBench:
    """Builds here, and runs behind `address`, reconnecting when the connection breaks.

    Every program is linked into one library with its kernels and uploaded; constants stay on the
    device from one program to the next.

    Args:
        device: `DeviceProfile.to_dict()`.
        cache: Folder of built kernels; None: built anew in every process.
        address: Fields of an `Address`.
    """

    def __init__(
        self, device: Mapping[str, Any], cache: str | None, address: Mapping[str, Any]
    ) -> None:
        profile = from_dict(dict(device))
        self._builder = Builder(profile, None if cache is None else Path(cache))
        self.version: str = self._builder.version
        self._executor = Executor(self._builder)
        self._cold_bytes = cold_bytes_of(profile)
        self._address = Address(**address)
        self._checked: set[Kernel] = set()
        self._numbers = itertools.count()
        self._session: Any = None
        self._connect()

    @contextmanager
    def ready(self, subject: Kernel | Network) -> Iterator[Ready]:
        """Build, link, upload and fill; see `Bench`."""
        if isinstance(subject, Network):
            program, times = self._executor.assemble(subject.kernels()), 1
            kernels: set[Kernel] = set(subject.kernels())
        else:
            program, times, kernels = self._executor.repeat(subject, 1), 0, {subject}
        with self._connection(), tempfile.TemporaryDirectory(prefix="programs-") as folder:
            if self._session is None:
                self._connect()
            for kernel in kernels - self._checked:
                self._check(kernel, Path(folder))
            if isinstance(subject, Kernel):
                with self._uploaded(program, Path(folder)) as machine:
                    times = copies_of(_timed(machine, self._device, 1), program, self._cold_bytes)
                program = self._executor.repeat(subject, times)
            with self._uploaded(program, Path(folder)) as machine:
                kind = "calls" if isinstance(subject, Network) else "copies"
                yield Ready(
                    _timed(machine, self._device, times),
                    self._reference,
                    {kind: len(program.calls), "address": str(self._address)},
                )

    def _connect(self) -> None:
        self._session = connected(self._address)
        kind = self._builder.target.kind.name
        self._device = self._session.device(_RPC_KINDS.get(kind, kind))
        self._constants = Constants(self._device)
        self._reference = self._timed_reference() if kind == "llvm" else None

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Tell a broken connection from a kernel that fails, by asking for something harmless."""
        try:
            yield
        except (DeviceError, GeneratorExit):
            raise
        except Exception as error:
            if self._session is not None and self._answers():
                raise
            self._session = None
            raise ConnectionLost(
                f"the connection to {self._address} broke: {type(error).__name__}"
            ) from error

    def _answers(self) -> bool:
        import tvm

        try:
            tvm.runtime.tensor(np.zeros(1, np.float32), self._device).numpy()
        except Exception:  # whatever TVM raises for a socket that is closed
            return False
        return True

    def _check(self, kernel: Kernel, folder: Path) -> None:
        """Compare a kernel's numbers on the device, where the builder could not."""
        built = self._builder.build(kernel)
        if not built.checked:
            import tvm

            problem = self._builder.problem(kernel)
            with self._loaded(self._exported(self._executor.repeat(kernel, 1), folder)) as module:
                arguments = (*problem.inputs, *problem.constants)
                tensors = [tvm.runtime.tensor(array, self._device) for array in arguments]
                output = tvm.runtime.tensor(np.zeros(problem.output, np.float32), self._device)
                module[built.symbol](*tensors, output)
                check_result(kernel.key, output.numpy(), problem)
        self._checked.add(kernel)

    def _exported(self, program: Program, folder: Path) -> Path:
        target = self._executor.target
        linker = linker_of(target, self._builder.runs_here)
        path = folder / f"program{next(self._numbers)}{'.so' if linker else '.tar'}"
        export(program, target, path, linker)
        return path

    @contextmanager
    def _uploaded(self, program: Program, folder: Path) -> Iterator[Any]:
        from tvm import relax

        with self._loaded(self._exported(program, folder)) as module:
            machine = relax.VirtualMachine(module, self._device)
            machine.set_input(MAIN, *self._constants.arguments(program, self._executor.drawn))
            yield machine

    @contextmanager
    def _loaded(self, path: Path) -> Iterator[Any]:
        self._session.upload(str(path), path.name)
        yield self._session.load_module(path.name)
        with contextlib.suppress(Exception):  # a server may lack the function
            self._session.remove(path.name)

    def _timed_reference(self) -> Timed:
        import tvm

        with tempfile.TemporaryDirectory(prefix="programs-") as folder:
            linker = linker_of(self._builder.target, self._builder.runs_here)
            path = Path(folder) / f"reference{'.so' if linker else '.tar'}"
            compiled = reference_module(self._builder.target)
            compiled.export_library(str(path), **({"fcompile": linker} if linker else {}))
            self._session.upload(str(path), path.name)
            module = self._session.load_module(path.name)
        values = np.random.default_rng(0).standard_normal((3, SIDE, SIDE), np.float32)
        arguments = [tvm.runtime.tensor(value, self._device) for value in values]
        evaluate = module.time_evaluator(REFERENCE, self._device, number=1, repeat=1)
        return lambda: _samples(evaluate(*arguments), 1)


def _timed(machine: Any, device: Any, times: int) -> Timed:
    evaluate = machine.time_evaluator("invoke_stateful", device, number=1, repeat=_REPEATS)
    return lambda: _samples(evaluate(MAIN), times)


def _samples(result: Any, times: int) -> Sequence[Sample]:
    return [Sample(seconds * 1e3 / times, None, times) for seconds in result.results]
