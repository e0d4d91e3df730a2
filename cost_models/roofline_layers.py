"""Time, traffic and energy of single layers on a device, and how far the figures can be off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hwnas.device import DeviceProfile
from hwnas.device.efficiency import layer_kind
from hwnas.errors import DeviceError
from hwnas.workload.layers import FLOAT_BITS, KINDS
from hwnas.workload.table import LayerTable

__all__ = ["EFFICIENCY_FACTORS", "FACTORS", "LayerTimes", "Rates", "is_compute"]

Float = NDArray[np.float64]
Int = NDArray[np.int64]

FACTORS: dict[str, float] = {"verified": 1.1, "fitted": 1.1, "derived": 1.25, "recalled": 2.0}
"""How far a peak, a bandwidth or a launch time may be off either way, by its status.

Judgement, not statistics: a data sheet's figure differs from the board by clocks and cooling, a
derived one by its formula too, and a recalled one may belong to another variant of the chip.
"""

EFFICIENCY_FACTORS: dict[str, float] = {
    "verified": 1.3, "fitted": 1.3, "derived": 2.0, "recalled": 4.0,
}  # fmt: skip
"""The same for efficiencies, which depend on shapes as well; no efficiency exceeds 1.

A recalled one is a start value. ResNet50 on a T4 reached 6 of 130 int8 TOPS in HAWQ-V3's table,
a tenth of what a start value of 0.4 says; half of that gap is launches and traffic, counted apart.
"""


@dataclass(frozen=True, slots=True)
class Rates:
    """Speeds of a device, each figure moved by its factor: up for `lean` 1, down for -1."""

    device: DeviceProfile
    lean: int

    def peak(self, dtype: str) -> float:
        """MACs per second."""
        peaks = {str(d): figure for d, figure in self.device.spec.peak_tops_dense.items()}
        status = peaks[dtype].status if dtype in peaks else "recalled"
        return float(self.device.peak_macs_per_s(dtype) * FACTORS[status] ** self.lean)

    def efficiency(self, kind: str, dtype: str | None = None) -> float:
        """Return the attained share of the peak for a workload's kind of layer."""
        name, figures = layer_kind(kind), self.device.spec.efficiency
        figure = figures.get(f"{name}.{dtype}", figures[name])
        return float(min(1.0, figure.value * EFFICIENCY_FACTORS[figure.status] ** self.lean))

    @property
    def bandwidth(self) -> float:
        """Bytes per second that layers attain."""
        figure = self.device.spec.bandwidth_gbps
        attained = self.efficiency("memory") * FACTORS[figure.status] ** self.lean
        return float(self.device.bandwidth_bytes_per_s * attained)

    @property
    def launch_s(self) -> float:
        """Seconds of overhead a layer."""
        figure = self.device.spec.launch_us
        return float(self.device.launch_s / FACTORS[figure.status] ** self.lean)


@dataclass(frozen=True, slots=True, eq=False)
class LayerTimes:
    """Layers as a device sees them: each column has shape (n,).

    `bytes_moved` counts every operand once, as wide as the device keeps it in memory.
    """

    table: LayerTable
    dtypes: tuple[str, ...]
    dtype_of: Int
    bytes_moved: Float

    @classmethod
    def of(cls, table: LayerTable, device: DeviceProfile) -> LayerTimes:
        """Look up how each layer's bits run.

        Raises:
            DeviceError: the device cannot multiply a layer's pair of bit-widths.
        """
        compute = is_compute(table)
        pairs = table.w_bits * 256 + table.a_bits  # bits are at most 32
        names: dict[str, int] = {}
        dtype_of, w_memory = np.zeros((2, len(table)), np.int64)
        w_memory[:] = table.w_bits
        for pair in np.unique(pairs[compute]).tolist():
            run = device.execution(*divmod(pair, 256))
            rows = compute & (pairs == pair)
            dtype_of[rows] = names.setdefault(run.dtype, len(names))
            w_memory[rows] = run.w_bits_in_memory
        return cls(table, tuple(names), dtype_of, _bytes_moved(table, device, w_memory))

    def seconds(self, rates: Rates, *, fused: bool = False) -> Float:
        """Seconds of each layer; `fused` ones without MACs cost nothing."""
        compute = is_compute(self.table)
        seconds = self.bytes_moved / rates.bandwidth
        seconds[compute] = np.maximum(
            seconds[compute], self.table.macs[compute] / self._rate(rates)[compute]
        )
        seconds += rates.launch_s
        return np.where(compute, seconds, 0.0) if fused else seconds

    def by_dtype(self, values: Mapping[str, float]) -> Float:
        """Spread a number for each data type over the layers that compute in it, shape (n,)."""
        if not self.dtypes:
            return np.zeros(len(self.table))
        out: Float = np.array([values[dtype] for dtype in self.dtypes])[self.dtype_of]
        return out

    def _rate(self, rates: Rates) -> Float:
        """MACs per second of each layer, 1 where there are none."""
        out = np.ones(len(self.table))
        combined = self.table.kind.astype(np.int64) * max(1, len(self.dtypes)) + self.dtype_of
        compute = is_compute(self.table)
        for code in np.unique(combined[compute]).tolist():
            kind, dtype = divmod(code, len(self.dtypes))
            name = self.dtypes[dtype]
            rows = compute & (combined == code)
            out[rows] = rates.efficiency(KINDS[kind], name) * rates.peak(name)
        return out


def is_compute(table: LayerTable) -> NDArray[np.bool_]:
    """Say which layers multiply and accumulate, shape (n,)."""
    return table.macs > 0


def _bytes_moved(table: LayerTable, device: DeviceProfile, w_memory: Int) -> Float:
    bits = (
        table.weight_elems * w_memory
        + table.in_elems * _activation_bits(table.a_bits, device)
        + table.extra_in_elems * _activation_bits(table.w_bits, device)
        + table.out_elems * _activation_bits(table.out_bits, device)
        + (table.bias_elems + table.scales) * FLOAT_BITS
    )
    moved: Float = bits / 8.0
    return moved


def _activation_bits(bits: Int, device: DeviceProfile) -> Int:
    """Bits of activations in the device's memory; as they are where nothing computes in them."""
    out = bits.copy()
    for width in np.unique(bits).tolist():
        try:
            out[bits == width] = device.execution(width, width).a_bits_in_memory
        except DeviceError:
            # only layers without MACs come here: `LayerTimes.of` has refused the others
            continue
    return out
