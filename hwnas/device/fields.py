"""What a device file may say; `devices/README.md` explains every field at length.

These models check one field at a time. What must hold between fields is in `consistency.py`, so
that a file with problems of both sorts reports them together.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.annotated_handlers import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from hwnas.device.reading import number_of

__all__ = [
    "CalibrationRecord",
    "DeviceSpec",
    "Dtype",
    "Energy",
    "Figure",
    "MeasuringProtocol",
    "ModeSpec",
    "Pair",
    "Power",
    "Runtime",
    "Status",
]

Status = Literal["verified", "derived", "recalled", "fitted"]
Dtype = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "int8x16", "int8", "int4"]
Records = Annotated[
    tuple["CalibrationRecord", ...],
    BeforeValidator(lambda value: [value] if isinstance(value, dict) else value),
]
Bits = Annotated[int, Field(ge=1, le=32, strict=True)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

BARE_NUMBER_SOURCE = "a bare number in the device file, without a source"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Figure(_Strict):
    """One number, how far it can be trusted, and where it is from.

    A bare number is read as `recalled`, so that a private file can be short and a search that uses
    it still says so.
    """

    value: float = Field(gt=0, allow_inf_nan=False)
    status: Status = Field(description="verified > fitted > derived > recalled")
    source: str = Field(min_length=1, description="page, table, formula or measurement")

    @model_validator(mode="before")
    @classmethod
    def _from_bare_number(cls, data: Any) -> Any:
        value = number_of(data)
        if value is None:
            return data
        return {"value": value, "status": "recalled", "source": BARE_NUMBER_SOURCE}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, handler(core_schema)]}


class Runtime(_Strict):
    """The software that runs the network; a latency without it means nothing."""

    name: str = Field(min_length=1)
    version: str | None = None


class Pair(_Strict):
    """A (weight, activation) pair of bit-widths and the arithmetic that it runs on."""

    w: Bits
    a: Bits
    runs_as: Dtype
    weight_bits_in_memory: Bits | None = Field(
        None, description="as stored and moved; absent: by packed_weight_bits"
    )


class Power(_Strict):
    """Electrical power while computing, in W."""

    max: Figure
    min: Figure | None = None


class Energy(_Strict):
    """Energy per operation; only where somebody published or measured it."""

    pj_per_mac: dict[Dtype, Figure] = Field(default_factory=dict)
    pj_per_dram_byte: Figure | None = None


class MeasuringProtocol(_Strict):
    """How a latency of this device is taken."""

    batch: int = Field(default=1, ge=1)
    warmup: int = Field(default=10, ge=0)
    repeats: int = Field(default=50, ge=1)
    statistic: Literal["median", "minimum"] = "median"
    clock_policy: Literal["locked", "recorded"] = Field(
        default="recorded", description="locked: refuse to measure unless the clock is fixed"
    )


class CalibrationRecord(_Strict):
    """How well the fitted latency predictor did on architectures it had not seen."""

    date: datetime.date
    fingerprint: str
    space: str
    samples: int = Field(ge=1)
    mape: float = Field(ge=0, allow_inf_nan=False, description="mean absolute error, percent")
    within_10pct: float = Field(ge=0, le=1)
    kendall_tau: float = Field(ge=-1, le=1)
    noise_floor_pct: float | None = Field(
        None, ge=0, allow_inf_nan=False, description="of two measurements; absent: not known"
    )
    predictor: str | None = Field(None, description="path beside the device file")


class ModeSpec(_Strict):
    """What a power mode changes; figures that it does not name are those of the device."""

    description: str = ""
    threads: int | None = Field(None, ge=1)
    peak_tops_dense: dict[Dtype, Figure] = Field(default_factory=dict)
    bandwidth_gbps: Figure | None = None
    power_w: Power | None = None
    launch_us: Figure | None = None
    efficiency: dict[str, Figure] = Field(default_factory=dict)
    calibration: Records = Field((), description="one record a space")


class DeviceSpec(_Strict):
    """One device file."""

    id: Name
    name: str = Field(min_length=1)
    kind: Literal["cpu", "gpu", "npu", "mcu", "other"]
    aliases: tuple[Name, ...] = ()
    description: str = ""
    processor: str | None = Field(None, description="model string, for the fingerprint")
    runtime: Runtime
    threads: int | None = Field(None, ge=1, description="threads that the peaks are for; cpu only")
    default_mode: Name | None = None
    modes: dict[Name, ModeSpec] = Field(default_factory=dict)
    peak_tops_dense: dict[Dtype, Figure] = Field(
        min_length=1, description="TOPS per data type, dense; 1 MAC is 2 operations"
    )
    sparse_2_4_factor: Figure | None = None
    bandwidth_gbps: Figure
    cache_bytes: dict[Name, Figure] = Field(default_factory=dict)
    ram_bytes: Figure
    power_w: Power | None = None
    energy: Energy | None = None
    pairs: tuple[Pair, ...] = Field(min_length=1)
    packed_weight_bits: tuple[Bits, ...] = Field(
        (), description="widths at which narrow weights may lie in memory, unpacked on the fly"
    )
    fallback: Dtype | None = None
    launch_us: Figure = Figure(
        value=5.0, status="recalled", source="start value per layer, not fitted"
    )
    efficiency: dict[str, Figure] = Field(default_factory=dict)
    channel_multiple: Figure | None = None
    tvm_target: dict[str, Any] | None = None
    protocol: MeasuringProtocol = MeasuringProtocol()
    calibration: Records = Field((), description="one record a space")
    license: str | None = Field(None, description="terms of the figures, where it has any")


DTYPES: tuple[str, ...] = get_args(Dtype)
