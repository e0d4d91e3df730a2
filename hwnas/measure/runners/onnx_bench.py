"""Times single kernels in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from hwnas.device.lookup import from_dict
from hwnas.measure.kernel import Kernel
from hwnas.measure.runners.bench import Ready, Unsupported
from hwnas.measure.runners.clocks import refuse_unlocked
from hwnas.measure.runners.copies import cold_bytes_of, copies_for
from hwnas.measure.runners.onnx_kernels import Graph, onnx_kernel
from hwnas.measure.runners.seam import Network
from hwnas.measure.samples import Timed, sampled

__all__ = ["OnnxBench"]

_REFERENCE: Final = Kernel("linear", (128, 128, 128), "fp32", 32, 32)

# It makes a float Gemm of a product and its bias before the integer product is seen.
_HARMFUL: Final = ["MatMulAddFusion"]


class OnnxBench:
    """Runs on the processor of the machine that it is in.

    Args:
        device: `DeviceProfile.to_dict()`.
    """

    def __init__(self, device: Mapping[str, Any]) -> None:
        import onnxruntime

        profile = from_dict(dict(device))
        if profile.protocol.clock_policy == "locked":
            refuse_unlocked()
        self.version: str = onnxruntime.__version__
        self._threads = profile.threads or 1
        self._cold_bytes = cold_bytes_of(profile)
        self._reference, _ = self._timed(onnx_kernel(_REFERENCE, 1))

    @contextmanager
    def ready(self, subject: Kernel | Network) -> Iterator[Ready]:
        """Write a graph and open a session; see `Bench`."""
        if isinstance(subject, Network):
            raise Unsupported("the onnxruntime runner times single kernels, not whole networks")
        graph = onnx_kernel(subject, 1)
        once, _ = self._timed(graph)
        times = copies_for(once, graph.constant_bytes, self._cold_bytes)
        timed, operators = self._timed(onnx_kernel(subject, times))
        yield Ready(timed, self._reference, {"operators": operators, "copies": times})

    def _timed(self, graph: Graph) -> tuple[Timed, list[str]]:
        run, operators = self._session(graph)
        times = len(graph.outputs)
        named = [f"{op} x{n / times:g}" for op, n in sorted(operators.items())]
        return sampled(run, times, cpu=self._threads == 1), named

    def _session(self, graph: Graph) -> tuple[Callable[[], None], Counter[str]]:
        """Open a session on fixed buffers; return it, and the operators that it runs."""
        import onnx
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with tempfile.TemporaryDirectory(prefix="onnx-") as folder:
            optimized = Path(folder) / "optimized.onnx"
            options.optimized_model_filepath = str(optimized)
            session = onnxruntime.InferenceSession(
                graph.serialized(), options, providers=["CPUExecutionProvider"],
                disabled_optimizers=_HARMFUL,
            )  # fmt: skip
            nodes = onnx.load(optimized).graph.node
        binding, rng = session.io_binding(), np.random.default_rng(0)
        for name, shape in graph.inputs.items():
            value = rng.standard_normal(shape, np.float32)
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        for name in graph.outputs:
            binding.bind_output(name, "cpu")
        session.run_with_iobinding(binding)  # allocates the outputs, which stay bound
        return lambda: session.run_with_iobinding(binding), Counter(n.op_type for n in nodes)
