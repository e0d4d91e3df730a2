"""ONNX Runtime, as a second and independent opinion."""

from __future__ import annotations

from hwnas.device import DeviceProfile
from hwnas.measure.runners.spawned import Limits, SpawnedRunner

__all__ = ["OnnxRunner"]


class OnnxRunner(SpawnedRunner):
    """Runs single kernels in ONNX Runtime on this machine's processor.

    Integer kernels are quantize-dequantize graphs with 8-bit weights, whatever the kernel's width:
    narrower ones have no integer path there. Which operators the runtime made of a kernel is in
    `details["operators"]`. Whole networks, and kernels that only move data, are unsupported.

    Args:
        device: Whose protocol and fingerprint hold.
        limits: How long the worker may be silent.
    """

    def __init__(self, device: DeviceProfile, *, limits: Limits | None = None) -> None:
        arguments = {"device": device.to_dict()}
        bench = "hwnas.measure.runners.onnx_bench:OnnxBench"
        super().__init__("onnxruntime", device, bench, arguments, limits=limits)
