"""PyTorch, for devices that TVM has no code for, and as a second opinion."""

from __future__ import annotations

from typing import Literal

from hwnas.device import DeviceProfile
from hwnas.measure.runners.spawned import Limits, SpawnedRunner

__all__ = ["TorchRunner"]


class TorchRunner(SpawnedRunner):
    """Runs eager PyTorch on the processor or a CUDA device of this machine.

    Which arithmetic PyTorch really has for a kernel is in `details["ran"]` of each measurement;
    `hwnas.measure.runners.torch_kernels` lists it.

    Args:
        device: Whose protocol and fingerprint hold.
        torch_device: Where tensors live; None: CUDA for a GPU's profile, else the processor.
        limits: How long the worker may be silent.
    """

    def __init__(
        self,
        device: DeviceProfile,
        torch_device: Literal["cpu", "cuda"] | None = None,
        *,
        limits: Limits | None = None,
    ) -> None:
        chosen = torch_device or ("cuda" if device.kind == "gpu" else "cpu")
        arguments = {"device": device.to_dict(), "torch_device": chosen}
        bench = "hwnas.measure.runners.torch_bench:TorchBench"
        super().__init__("torch", device, bench, arguments, limits=limits)
