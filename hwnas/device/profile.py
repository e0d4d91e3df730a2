"""A device in one power mode, as cost models and measurements see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hwnas.device.efficiency import layer_kind
from hwnas.device.execution import OPERAND_BITS, Execution, execution_of
from hwnas.errors import DeviceError

if TYPE_CHECKING:
    from hwnas.device.fields import (
        CalibrationRecord,
        DeviceSpec,
        Energy,
        Figure,
        MeasuringProtocol,
        Runtime,
    )

__all__ = ["DeviceProfile"]

_UNITS = {
    "peak_tops_dense": "TOPS",
    "bandwidth_gbps": "GB/s",
    "cache_bytes": "B",
    "ram_bytes": "B",
    "power_w": "W",
    "launch_us": "us",
    "efficiency": "of peak",
    "channel_multiple": "channels",
    "sparse_2_4_factor": "x",
    "energy": "pJ",
}


@dataclass(frozen=True)
class DeviceProfile:
    """A device file with the overrides of one mode applied.

    Attributes:
        spec: Every field of the file, figures with status and source.
        mode: Name of the mode; `default` where the device has no modes.
        origin: The file that won the look-up, or `this machine`.
    """

    spec: DeviceSpec
    mode: str
    origin: str = field(compare=False)
    _memo: dict[tuple[int, int], Execution] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __hash__(self) -> int:
        return hash((self.id, self.mode))

    @property
    def id(self) -> str:
        return self.spec.id

    @property
    def key(self) -> str:
        """`id:mode`, the name under which costs and measurements are kept."""
        return f"{self.id}:{self.mode}"

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def kind(self) -> str:
        return self.spec.kind

    @property
    def aliases(self) -> tuple[str, ...]:
        return self.spec.aliases

    @property
    def runtime(self) -> Runtime:
        return self.spec.runtime

    @property
    def threads(self) -> int | None:
        return self.spec.threads

    @property
    def fingerprint(self) -> str:
        """What a measurement belongs to: processor, runtime, threads, power mode."""
        runtime = " ".join(filter(None, (self.runtime.name, self.runtime.version)))
        threads = "threads n/a" if self.threads is None else f"{self.threads} threads"
        return " | ".join((self.spec.processor or self.name, runtime, threads, self.mode))

    def execution(self, w_bits: int, a_bits: int) -> Execution:
        """Return how the pair runs; the rule is in `hwnas.device.execution`.

        Raises:
            DeviceError: nothing on the device is wide enough.
        """
        pair = (w_bits, a_bits)
        if pair not in self._memo:
            self._memo[pair] = execution_of(self.spec, w_bits, a_bits)
        return self._memo[pair]

    def peak_macs_per_s(self, dtype: str) -> float:
        """Multiply-accumulates per second at the dense peak: half of the operations.

        Raises:
            DeviceError: the profile has no figure for `dtype`.
        """
        peaks: dict[str, Figure] = dict(self.spec.peak_tops_dense.items())
        if dtype not in peaks:
            raise DeviceError(f"{self.key} has no peak for {dtype!r}; it has {', '.join(peaks)}")
        return peaks[dtype].value * 1e12 / 2

    @property
    def bandwidth_bytes_per_s(self) -> float:
        return self.spec.bandwidth_gbps.value * 1e9

    def efficiency(self, kind: str, dtype: str | None = None) -> float:
        """Return the attained share of a peak, for `gemm` or for a workload's `linear` alike.

        A figure for the kind and data type (`gemm.int8`) goes before one for the kind.

        Raises:
            DeviceError: `kind` is not a kind of layer.
        """
        name, figures = layer_kind(kind), self.spec.efficiency
        return figures.get(f"{name}.{dtype}", figures[name]).value

    @property
    def launch_s(self) -> float:
        """Fixed time of one layer: kernel launch, or waking the threads."""
        return self.spec.launch_us.value * 1e-6

    @property
    def power_w(self) -> float | None:
        """Power limit of the mode; None where nobody said."""
        return None if self.spec.power_w is None else self.spec.power_w.max.value

    @property
    def energy(self) -> Energy | None:
        """Published energy figures; None: estimate energy as `power_w` times latency."""
        return self.spec.energy

    @property
    def energy_basis(self) -> str | None:
        """How an energy estimate comes about: `per operation`, `power x time`, or None."""
        if self.spec.energy is not None and self.spec.energy.pj_per_mac:
            return "per operation"
        return None if self.spec.power_w is None else "power x time"

    @property
    def ram_bytes(self) -> int:
        return int(self.spec.ram_bytes.value)

    @property
    def cache_bytes(self) -> dict[str, int]:
        return {level: int(figure.value) for level, figure in self.spec.cache_bytes.items()}

    @property
    def channel_multiple(self) -> int:
        """Channels come in multiples of this; 1 where the device does not mind."""
        figure = self.spec.channel_multiple
        return 1 if figure is None else int(figure.value)

    @property
    def tvm_target(self) -> dict[str, Any] | None:
        """Arguments of `tvm.target.Target`; None where TVM does not compile for the device."""
        return self.spec.tvm_target

    @property
    def protocol(self) -> MeasuringProtocol:
        return self.spec.protocol

    @property
    def calibrations(self) -> tuple[CalibrationRecord, ...]:
        """How well the fitted predictors do in this mode, one a space; none until calibrated."""
        return self.spec.calibration

    def calibration(self, space: str) -> CalibrationRecord | None:
        """How well the predictor of a space does; None until `hwnas calibrate` for that space."""
        return next((r for r in self.spec.calibration if r.space == space), None)

    def figures(self) -> dict[str, tuple[Figure, str]]:
        """Every figure and its unit, by its place in the file (`peak_tops_dense.int8`)."""
        found = _figures(self.spec, "")
        return {place: (figure, _UNITS[place.partition(".")[0]]) for place, figure in found}

    def weak_figures(self) -> dict[str, Figure]:
        """Return the recalled figures that an estimate may rest on.

        The peak of a data type that no pair and no fallback of the profile runs as is left out.
        """
        used = {pair.runs_as for pair in self.spec.pairs} | {self.spec.fallback}
        idle = {f"peak_tops_dense.{dtype}" for dtype in OPERAND_BITS if dtype not in used}
        figures = {place: figure for place, (figure, _) in self.figures().items()}
        return {p: f for p, f in figures.items() if f.status == "recalled" and p not in idle}

    def to_dict(self) -> dict[str, Any]:
        """Return the profile as JSON values: a device file with this mode alone."""
        values = self.spec.model_dump(mode="json", exclude_none=True, exclude={"modes"})
        if self.spec.modes:
            mode = {"description": self.spec.modes[self.mode].description}
            calibration = values.pop("calibration")
            if calibration:
                mode["calibration"] = calibration
            values |= {"default_mode": self.mode, "modes": {self.mode: mode}}
        return values


def _figures(model: Any, place: str) -> list[tuple[str, Figure]]:
    """Walk the models and mappings below `model`, modes left out: they are applied already."""
    if hasattr(model, "status") and hasattr(model, "value"):
        return [(place, model)]
    fields = type(model).model_fields if hasattr(type(model), "model_fields") else ()
    items = model.items() if isinstance(model, dict) else [(f, getattr(model, f)) for f in fields]
    return [
        found
        for key, value in items
        if key != "modes"
        for found in _figures(value, f"{place}.{key}" if place else str(key))
    ]
