"""Kernels and subnets as things to measure."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hwnas.cost.lowering import lower
from hwnas.measure.campaign import Item
from hwnas.measure.choosing import Picked
from hwnas.measure.kernel import Kernel

if TYPE_CHECKING:
    from hwnas.device import DeviceProfile
    from hwnas.measure.runners.seam import Network
    from hwnas.space import Arch, SearchSpace

__all__ = ["kernel_item", "network_item", "network_key"]


def network_key(arch_id: str, prompts: int) -> str:
    """`Measurement.key` of a subnet: its id, and for how many prompts its time is."""
    return f"{arch_id}-{prompts}prompts"


def network_item(
    space: SearchSpace, device: DeviceProfile, arch: Arch, *, prompts: int, picked: Picked
) -> Item:
    """A whole subnet; its genes and why it was picked are in the details."""
    key = network_key(arch.id, prompts)
    details = {
        "space": space.name, "genes": dict(arch.genes), "prompts": prompts, "picked": picked,
    }  # fmt: skip
    return Item("subnet", key, partial(_network, space, device, arch, prompts), details)


def kernel_item(kernel: Kernel) -> Item:
    """A single kernel."""
    return Item("kernel", kernel.key, lambda: kernel)


def _network(space: SearchSpace, device: DeviceProfile, arch: Arch, prompts: int) -> Network:
    """The subnet as the steps that it runs on the device.

    Raises:
        DeviceError: the device cannot run a layer of it.
    """
    from hwnas.measure.lowering import steps_of
    from hwnas.measure.runners.seam import Network

    steps = tuple(steps_of(lower(space, arch), device))
    return Network(network_key(arch.id, prompts), steps, prompts)
