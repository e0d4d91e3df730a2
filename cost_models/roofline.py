"""Latency and energy of a device profile, estimated layer by layer and never measured.

For each layer

    t = max(MACs / (e_c x peak), bytes / (e_m x bandwidth)) + launch

with the peak of the data type that the device runs the layer's bits as, bytes as they lie in that
device's memory, and efficiencies e by kind of layer. Source: the roofline model (Williams,
Waterman, Patterson 2009) with a launch overhead for each layer.

The interval is wide, and on purpose. Its ends come from `FACTORS` and `EFFICIENCY_FACTORS` of
`cost_models.roofline_layers`: each figure of the profile is
taken better and worse by a factor that follows from its status, and the optimistic end lets the
runtime fuse every layer without MACs into its neighbor, the pessimistic one none. It is not a
statistical interval, so it has no level; only measurements can give one that has.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cost_models.roofline_layers import FACTORS, LayerTimes, Rates
from hwnas.cost import CostBatch, CostContext, CostModel, Direction, SlotTables, build, estimate
from hwnas.cost.prompts import decoder_runs
from hwnas.errors import CostError
from hwnas.space import Arch
from hwnas.workload.table import LayerTable

if TYPE_CHECKING:
    from hwnas.device import DeviceProfile
    from hwnas.device.fields import Figure

__all__ = ["Energy", "Roofline"]

Float = NDArray[np.float64]
_VALUE, _LO, _HI = 0, 1, 2
_MILLI = 1e3
_PICO = 1e-12
_IDLE_SHARE = 0.25  # of the power limit, where a profile gives no lower power


class Roofline:
    """Milliseconds for one image and `prompts` prompts on a device profile, batch of one.

    Resizing and normalizing the picture and moving it to the device are not part of it.

    Raises:
        CostError: no device was given, or `prompts` is not a whole number from 1.
    """

    name = "latency"
    unit = "ms"
    direction: Direction = "min"
    fidelity = "estimated"
    needs = ("device",)

    def __init__(self, context: CostContext, *, prompts: int = 1) -> None:
        runs = decoder_runs("system", prompts, by=self.name)
        device: DeviceProfile = context.require("device", by=self.name)
        self.prompts = runs
        self._version = f"roofline-1 device={device.key} prompts={runs}"
        self._tables = SlotTables(context, partial(_times_ms, device=device, prompts=runs), width=3)

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return milliseconds, shape (n,)."""
        return self._tables.totals(archs, _VALUE)

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return milliseconds with the two ends described above."""
        return _batch(self._tables.totals(archs), self.unit, self._version)

    def breakdown(self, arch: Arch) -> dict[str, float]:
        """Return milliseconds by part of the network."""
        return {part: float(value[_VALUE]) for part, value in self._tables.parts(arch).items()}


class Energy:
    """Millijoules for one image and `prompts` prompts (1, or what was measured); an estimate.

    Where the profile has published energies of a MAC and of a byte, their sum; else the power
    limit of the mode times the latency, whose lower end takes the profile's lower power, or a
    quarter of the limit where it has none. The latency is the calibrated predictor's where the
    device has one for the space, else the roofline's.

    Raises:
        CostError: no device was given, or its profile knows neither energies nor power.
    """

    name = "energy"
    unit = "mJ"
    direction: Direction = "min"
    fidelity = "estimated"
    needs = ("device",)

    def __init__(self, context: CostContext, *, prompts: int | None = None) -> None:
        runs = decoder_runs("system", 1 if prompts is None else prompts, by=self.name)
        device: DeviceProfile = context.require("device", by=self.name)
        if device.energy_basis is None:
            raise CostError(
                f"cost model {self.name}: the profile {device.key} gives neither power_w nor "
                "energy; add one of them to its file, or leave this objective out"
            )
        self._latency: CostModel | None = None
        if device.energy_basis == "power x time" and device.calibration(context.space.name):
            self._latency = build("latency", context, prompts=prompts)
            runs = getattr(self._latency, "prompts", runs)
        self.prompts = runs
        self._version = f"roofline-energy-1 device={device.key} prompts={runs}"
        self._watts = _watts(device) if self._latency is not None else (0.0, 0.0)
        measure = _operations_mj if device.energy_basis == "per operation" else _power_mj
        self._tables = SlotTables(context, partial(measure, device=device, prompts=runs), width=3)

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return millijoules, shape (n,)."""
        if self._latency is not None:
            return self._latency.evaluate(archs) * self._watts[1]
        return self._tables.totals(archs, _VALUE)

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return millijoules with a lower and an upper end."""
        if self._latency is not None:
            return self._of_times(estimate(self._latency, archs))
        return _batch(self._tables.totals(archs), self.unit, self._version)

    def breakdown(self, arch: Arch) -> dict[str, float]:
        """Return millijoules by part of the network; its shares are those of the roofline."""
        parts = {part: float(value[_VALUE]) for part, value in self._tables.parts(arch).items()}
        total = sum(parts.values())
        scale = float(self.evaluate([arch])[0]) / total if total else 1.0
        return {part: value * scale for part, value in parts.items()}

    def _of_times(self, times: CostBatch) -> CostBatch:
        """Power times predicted latency; power is not known, so that the ends have no level."""
        low, high = self._watts
        lo = times.value if times.lo is None else times.lo
        hi = times.value if times.hi is None else times.hi
        version = f"{self._version} of {times.model_version}"
        return CostBatch(
            times.value * high, lo * low, hi * high, None, times.extrapolating, "estimated",
            self.unit, version,
        )  # fmt: skip


def _batch(totals: Float, unit: str, version: str) -> CostBatch:
    value, lo, hi = totals.T
    inside = np.zeros(len(totals), np.bool_)
    return CostBatch(value, lo, hi, None, inside, "estimated", unit, version)


def _times_ms(table: LayerTable, device: DeviceProfile, prompts: int) -> Float:
    """Milliseconds of each layer over all its runs: value, lower and upper end, shape (n, 3)."""
    layers = LayerTimes.of(table, device)
    seconds = [
        layers.seconds(Rates(device, 0)),
        layers.seconds(Rates(device, 1), fused=True),
        layers.seconds(Rates(device, -1)),
    ]
    out: Float = np.stack(seconds, axis=1) * _MILLI * table.runs(prompts)[:, None]
    return out


def _power_mj(table: LayerTable, device: DeviceProfile, prompts: int) -> Float:
    """Millijoules of each layer by power x time, columns as in `_times_ms`."""
    low, limit = _watts(device)
    watts: Float = np.array([limit, low, limit])
    return _times_ms(table, device, prompts) * watts


def _watts(device: DeviceProfile) -> tuple[float, float]:
    """The lower power and the limit of a mode."""
    power = device.spec.power_w
    if power is None:
        raise CostError(f"the profile {device.key} gives no power_w")
    limit = float(power.max.value)
    return limit * _IDLE_SHARE if power.min is None else float(power.min.value), limit


def _operations_mj(table: LayerTable, device: DeviceProfile, prompts: int) -> Float:
    """Millijoules of each layer by energies of a MAC and a byte, columns as in `_times_ms`."""
    layers = LayerTimes.of(table, device)
    energy = device.spec.energy
    if energy is None:
        raise CostError(f"the profile {device.key} gives no energy")
    figures: dict[str, Figure] = {str(d): f for d, f in energy.pj_per_mac.items()}
    lacking = [dtype for dtype in layers.dtypes if dtype not in figures]
    if lacking:
        raise CostError(
            f"the profile {device.key} gives no pj_per_mac for {', '.join(lacking)}; add it"
        )
    byte = energy.pj_per_dram_byte
    columns = []
    for lean in (0, -1, 1):
        per_mac = layers.by_dtype({d: _leaning(f, lean) for d, f in figures.items()})
        per_byte = 0.0 if byte is None else _leaning(byte, lean)
        columns.append(table.macs * per_mac + layers.bytes_moved * per_byte)
    out: Float = np.stack(columns, axis=1) * _PICO * _MILLI * table.runs(prompts)[:, None]
    return out


def _leaning(figure: Figure, lean: int) -> float:
    return float(figure.value * FACTORS[figure.status] ** lean)
