"""Before an export: how each layer of a design will run on a device.

A layer runs natively where the device multiplies exactly its pair of bit-widths, widened where it
takes a wider integer, and as a fallback where it takes floating point. What that costs is told in
BitOPs: those of the design, and those of what the device multiplies instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hwnas.device import DeviceProfile
from hwnas.device.execution import OPERAND_BITS
from hwnas.errors import DeviceError
from hwnas.workload import Workload

__all__ = ["LayerFate", "check_layers", "summary"]

Fate = Literal["native", "widened", "fallback", "float", "impossible"]
_FLOAT = 16
_GIGA = 1e9


@dataclass(frozen=True, slots=True)
class LayerFate:
    """One layer on one device; `dtype` is what it multiplies, `message` why it cannot run."""

    name: str
    w_bits: int
    a_bits: int
    macs: int
    fate: Fate
    dtype: str
    weight_bits_in_memory: int
    message: str = ""

    @property
    def gbitops(self) -> float:
        """Of the design."""
        return self.macs * self.w_bits * self.a_bits / _GIGA

    @property
    def executed_gbitops(self) -> float:
        """Of what the device multiplies; floating point by the bits of its type."""
        w_bits, a_bits = OPERAND_BITS.get(self.dtype, (0, 0))
        return self.macs * w_bits * a_bits / _GIGA


def check_layers(workload: Workload, device: DeviceProfile) -> tuple[LayerFate, ...]:
    """The fate of every layer that multiplies; those of the decoder are counted once."""
    return tuple(
        _fate(layer.name, layer.w_bits, layer.a_bits, layer.macs, device)
        for layer in workload.layers
        if layer.macs
    )


def summary(fates: Sequence[LayerFate]) -> tuple[str, ...]:
    """What a user must know, in sentences."""
    macs = sum(fate.macs for fate in fates) or 1
    lines = []
    for word, what in (
        ("native", "run natively"),
        ("widened", "are widened to a wider integer type"),
        ("fallback", "fall back to floating point"),
        ("float", "are in floating point by design"),
        ("impossible", "cannot run on the device"),
    ):
        found = [fate for fate in fates if fate.fate == word]
        if found:
            share = 100 * sum(fate.macs for fate in found) / macs
            pairs = sorted({f"w{fate.w_bits}a{fate.a_bits} as {fate.dtype}" for fate in found})
            lines.append(f"{len(found)} layers ({share:.1f} % of MACs) {what}: {', '.join(pairs)}.")
    planned = sum(fate.gbitops for fate in fates if fate.fate in ("native", "widened", "fallback"))
    executed = sum(
        fate.executed_gbitops for fate in fates if fate.fate in ("native", "widened", "fallback")
    )
    if planned:
        lines.append(
            f"Quantized layers have {planned:.4g} GBitOPs; the device multiplies "
            f"{executed:.4g} GBitOPs for them, {executed / planned:.2f} times as many."
        )
    return tuple(lines)


def _fate(name: str, w_bits: int, a_bits: int, macs: int, device: DeviceProfile) -> LayerFate:
    try:
        execution = device.execution(w_bits, a_bits)
    except DeviceError as error:
        return LayerFate(name, w_bits, a_bits, macs, "impossible", "-", w_bits, str(error))
    fate: Fate = "widened"
    if min(w_bits, a_bits) >= _FLOAT:
        fate = "float"
    elif execution.native:
        fate = "native"
    elif not execution.dtype.startswith("int"):
        fate = "fallback"
    return LayerFate(name, w_bits, a_bits, macs, fate, execution.dtype, execution.w_bits_in_memory)
