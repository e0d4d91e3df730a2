"""Times TVM kernels in this process."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.device.lookup import from_dict
from hwnas.measure.builder import Builder
from hwnas.measure.executor import MAIN, Constants, Executor, link
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.schedule import Schedule
from hwnas.measure.program import Program
from hwnas.measure.runners.bench import Ready
from hwnas.measure.runners.clocks import refuse_unlocked
from hwnas.measure.runners.copies import cold_bytes_of, copies_of
from hwnas.measure.runners.reference import REFERENCE, SIDE, reference_module
from hwnas.measure.runners.seam import Network
from hwnas.measure.samples import Timed, sampled

__all__ = ["TvmBench"]


class TvmBench:
    """Runs on the machine that it is in.

    Args:
        device: `DeviceProfile.to_dict()`.
        cache: Folder of built kernels; None: built anew in every process.
    """

    def __init__(self, device: Mapping[str, Any], cache: str | None) -> None:
        import tvm

        profile = from_dict(dict(device))
        if profile.protocol.clock_policy == "locked":
            refuse_unlocked()
        self._profile = profile
        self._builder = Builder(profile, None if cache is None else Path(cache))
        self.version: str = self._builder.version
        self._executor = Executor(self._builder)
        self._on_cpu = self._builder.target.kind.name == "llvm"
        self._device = tvm.device("cpu" if self._on_cpu else self._builder.target.kind.name)
        self._constants = Constants(self._device)
        self._cold_bytes = cold_bytes_of(profile)
        self._cpu_time = profile.threads == 1
        self._reference = self._timed_reference()

    @property
    def builder(self) -> Builder:
        return self._builder

    def with_schedules(self, schedules: Mapping[Kernel, Schedule]) -> TvmBench:
        """The same engine with other schedules, whose kernels are built in a temporary folder."""
        other = copy.copy(self)
        other._builder = Builder(self._profile, None, schedules)
        other._executor = Executor(other._builder)
        other._constants = Constants(self._device)
        return other

    @contextmanager
    def ready(self, subject: Kernel | Network) -> Iterator[Ready]:
        """Build and link a kernel, repeated on as many constants as caches ask for, or a network.

        Raises:
            DeviceError: a kernel cannot be built, or computes wrong numbers.
        """
        if isinstance(subject, Network):
            program = self._executor.assemble(subject.kernels())
            call = self._runnable(program)
            yield Ready(self._timed(call, 1), self._reference, {"calls": len(program.calls)})
            return
        once = self._executor.repeat(subject, 1)
        times = copies_of(self._timed(self._runnable(once), 1), once, self._cold_bytes)
        call = self._runnable(self._executor.repeat(subject, times))
        yield Ready(self._timed(call, times), self._reference, {"copies": times})

    def _runnable(self, program: Program) -> Any:
        from tvm import relax

        machine = relax.VirtualMachine(link(program, self._executor.target), self._device)
        machine.set_input(MAIN, *self._constants.arguments(program, self._executor.drawn))
        return machine

    def _timed(self, machine: Any, times: int) -> Timed:
        invoke = machine.module["invoke_stateful"]
        if self._on_cpu:
            return sampled(lambda: invoke(MAIN), times, cpu=self._cpu_time)
        return sampled(lambda: (invoke(MAIN), self._device.sync()), times, cpu=False)

    def _timed_reference(self) -> Timed | None:
        """Make the reference ready; graphics processors do without."""
        import tvm

        if not self._on_cpu:
            return None
        function = reference_module(self._builder.target).mod[REFERENCE]
        values = np.random.default_rng(0).standard_normal((3, SIDE, SIDE), np.float32)
        arguments = [tvm.runtime.tensor(value, self._device) for value in values]
        return sampled(lambda: function(*arguments), cpu=self._cpu_time)
