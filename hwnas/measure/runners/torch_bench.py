"""Times kernels and networks in eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from hwnas.device.lookup import from_dict
from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.program import Part, Program, chained, repeated
from hwnas.measure.runners.bench import Ready
from hwnas.measure.runners.clocks import refuse_unlocked
from hwnas.measure.runners.copies import cold_bytes_of, copies_of
from hwnas.measure.runners.seam import Network
from hwnas.measure.runners.torch_kernels import TorchKernel, torch_kernel
from hwnas.measure.samples import Sample, Timed, sampled

__all__ = ["TorchBench"]

_REFERENCE_SIDE = 128


class TorchBench:
    """Activations are float32 on the processor and float16 on CUDA, where a graph is replayed.

    Args:
        device: `DeviceProfile.to_dict()`.
        torch_device: `cpu` or `cuda`.

    Raises:
        DeviceError: there is no CUDA device.
    """

    def __init__(self, device: Mapping[str, Any], torch_device: str) -> None:
        profile = from_dict(dict(device))
        if torch_device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("torch finds no CUDA device; measure with torch_device 'cpu'")
        if torch_device == "cpu" and profile.protocol.clock_policy == "locked":
            refuse_unlocked()
        self.version: str = torch.__version__
        torch.set_num_threads(profile.threads or 1)
        self._where, self._cuda = torch_device, torch_device == "cuda"
        self._activation = torch.float16 if self._cuda else torch.float32
        self._cold_bytes = cold_bytes_of(profile)
        self._cpu_time = profile.threads == 1
        square = self._drawn(_REFERENCE_SIDE**2, self._activation)
        square = square.view(_REFERENCE_SIDE, _REFERENCE_SIDE)
        self._reference = self._timed(lambda: torch.mm(square, square), 1)

    @contextmanager
    def ready(self, subject: Kernel | Network) -> Iterator[Ready]:
        """Make tensors, and on CUDA capture a graph; see `Bench`."""
        network = isinstance(subject, Network)
        kernels = subject.kernels() if isinstance(subject, Network) else (subject,)
        ops = {kernel.key: torch_kernel(kernel, self._activation) for kernel in kernels}
        tf32 = any(kernel.dtype == "tf32" for kernel in kernels)
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        parts = {key: _part(key, op) for key, op in ops.items()}
        program, times = chained([parts[kernel.key] for kernel in kernels]), 1
        if not network:
            once = self._timed(self._runnable(program, ops), 1)
            times = copies_of(once, program, self._cold_bytes)
            program = repeated(parts[subject.key], times)
        details = {
            "torch_device": self._device_name(),
            "ran": sorted({op.ran for op in ops.values()}),
            "calls" if network else "copies": len(program.calls),
        }
        yield Ready(self._timed(self._runnable(program, ops), times), self._reference, details)

    def _runnable(self, program: Program, ops: Mapping[str, TorchKernel]) -> Callable[[], object]:
        constants = {name: self._drawn(c.elems, c.dtype) for name, c in program.constants.items()}
        inputs = {name: self._drawn(n, self._activation) for name, n in program.inputs.items()}

        def run() -> object:
            buffers = dict(inputs)
            result = None
            for call in program.calls:
                given = [buffers[name][:elems] for name, elems in call.inputs]
                held = [constants[name] for name in call.constants]
                result = ops[call.function].run(given, held)
                buffers[call.output] = result.reshape(-1)
            return result

        return run

    def _timed(self, call: Callable[[], object], times: int) -> Timed:
        if not self._cuda:
            return sampled(call, times, cpu=self._cpu_time)
        replay = _captured(call)
        cuda: Any = torch.cuda  # its classes have no types
        start, end = (cuda.Event(enable_timing=True) for _ in range(2))

        def timed() -> Sequence[Sample]:
            start.record()
            replay()
            end.record()
            end.synchronize()
            return [Sample(start.elapsed_time(end) / times, None, times)]

        return timed

    def _drawn(self, elems: int, dtype: torch.dtype | str) -> torch.Tensor:
        kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        if kind == torch.int8:
            return torch.randint(-127, 128, (elems,), dtype=kind, device=self._where)
        return torch.randn(elems, device=self._where).mul_(0.1).to(kind)

    def _device_name(self) -> str:
        return torch.cuda.get_device_name() if self._cuda else "cpu"


def _captured(call: Callable[[], object]) -> Callable[[], None]:
    """Record a CUDA graph, so that launching from Python is not what is timed."""
    cuda: Any = torch.cuda  # its classes have no types
    side = cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    replay: Callable[[], None] = graph.replay
    return replay


def _part(key: str, op: TorchKernel) -> Part:
    return Part(key, op.inputs, op.constants, op.output, None, None)
