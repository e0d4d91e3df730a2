"""A profile as rows for people: every figure with its status and source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.device.profile import DeviceProfile
from hwnas.errors import DeviceError

if TYPE_CHECKING:
    from hwnas.device.fields import CalibrationRecord

__all__ = ["show"]

_WIDTHS = ((32, 32), (16, 16), (8, 16), (8, 8), (6, 8), (4, 16), (4, 8), (4, 4), (3, 3), (2, 2))

Row = dict[str, object]


def show(profile: DeviceProfile) -> list[Row]:
    """Return rows of `field`, `value`, `unit`, `status`, `source`; settings have no status."""
    return [*_settings(profile), *_figures(profile), *_pairs(profile)]


def _settings(profile: DeviceProfile) -> list[Row]:
    spec = profile.spec
    others = ", ".join(mode for mode in spec.modes if mode != profile.mode)
    values: Row = {
        "id": spec.id,
        "name": spec.name,
        "aliases": ", ".join(spec.aliases) or None,
        "mode": profile.mode + (f" (others: {others})" if others else ""),
        "kind": spec.kind,
        "description": spec.description or None,
        "fingerprint": profile.fingerprint,
        "tvm_target": spec.tvm_target,
        "packed_weight_bits": ", ".join(map(str, spec.packed_weight_bits)) or "none",
        "fallback": spec.fallback or "none",
        "energy": profile.energy_basis or "cannot be estimated",
        "protocol": ", ".join(f"{k} {v}" for k, v in spec.protocol.model_dump().items()),
        "calibration": _calibration(profile),
        "file": profile.origin,
    }
    return [_row(field, value) for field, value in values.items() if value is not None]


def _calibration(profile: DeviceProfile) -> str:
    records = profile.calibrations
    return "; ".join(map(_record, records)) or "none: latency is a roofline estimate"


def _record(record: CalibrationRecord) -> str:
    noise = "unknown" if record.noise_floor_pct is None else f"{record.noise_floor_pct:.2g} %"
    return (
        f"{record.date}, {record.samples} architectures of {record.space}: MAPE "
        f"{record.mape:.2g} %, within 10 % {record.within_10pct:.0%}, Kendall tau "
        f"{record.kendall_tau:.3g}, noise floor {noise}"
    )


def _figures(profile: DeviceProfile) -> list[Row]:
    return [
        _row(place, _plain(figure.value), unit, figure.status, figure.source)
        for place, (figure, unit) in profile.figures().items()
    ]


def _plain(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _pairs(profile: DeviceProfile) -> list[Row]:
    rows = []
    for w_bits, a_bits in _WIDTHS:
        try:
            run = profile.execution(w_bits, a_bits)
        except DeviceError:
            rows.append(_row(f"w{w_bits}a{a_bits}", "does not run"))
            continue
        how = "native" if run.native else "emulated"
        bits = f"{run.w_bits_in_memory} and {run.a_bits_in_memory} bits in memory"
        rows.append(_row(f"w{w_bits}a{a_bits}", f"{run.dtype}, {how}, {bits}"))
    return rows


def _row(
    field: str,
    value: object,
    unit: str | None = None,
    status: str | None = None,
    source: str | None = None,
) -> Row:
    return {"field": field, "value": value, "unit": unit, "status": status, "source": source}
