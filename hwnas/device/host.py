"""A profile of the machine that this runs on, by formula from its instruction sets.

    peak TOPS = threads x GHz x (operations per cycle of one core) / 1000

AMX is not counted: the kernels that we compile with TVM use AVX-512 VNNI. Bandwidth is not
measured, because a profile must say the same twice; `hwnas calibrate --device host` replaces it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from hwnas.device.catalog import HOST
from hwnas.device.execution import OPERAND_BITS
from hwnas.device.machine import Machine, detect_machine
from hwnas.device.modes import NO_MODES, profile_at

if TYPE_CHECKING:
    from hwnas.device.profile import DeviceProfile

__all__ = ["host_profile", "is_this_machine"]


@dataclass(frozen=True, slots=True)
class _Rate:
    """Operations (1 MAC is 2) that one core starts in a cycle if it has all of `flags`."""

    flags: tuple[str, ...]
    dtype: str
    per_cycle: float
    name: str


_RATES: Final[tuple[_Rate, ...]] = (
    _Rate(("sse2",), "fp32", 8, "SSE2, one multiply and one add"),
    _Rate(("avx2", "fma"), "fp32", 32, "AVX2, two FMA"),
    _Rate(("avx512f",), "fp32", 64, "AVX-512, two FMA"),
    _Rate(("avx512_fp16",), "fp16", 128, "AVX-512 FP16, two FMA"),
    _Rate(("avx512_bf16",), "bf16", 128, "AVX-512 BF16, two dot products"),
    _Rate(("avx2",), "int8", 42, "AVX2, three instructions for 32 multiplications"),
    _Rate(("avx_vnni",), "int8", 128, "AVX-VNNI, two dot products"),
    _Rate(("avx512_vnni",), "int8", 256, "AVX-512 VNNI, two dot products"),
    _Rate(("asimd",), "fp32", 8, "NEON, one FMA"),
    _Rate(("asimd", "asimddp"), "fp32", 16, "NEON of a core with dot product, two FMA"),
    _Rate(("asimd", "asimdhp"), "fp16", 32, "NEON FP16, two FMA"),
    _Rate(("asimd",), "int8", 16, "NEON, widening multiplications"),
    _Rate(("asimddp",), "int8", 64, "NEON dot product, two SDOT"),
    _Rate(("i8mm",), "int8", 128, "NEON I8MM, two SMMLA"),
)

_ASSUMED_GHZ: Final = 2.0
_ASSUMED_BANDWIDTH_GBPS: Final = 15.0


def host_profile(*, mode: str | None = None, machine: Machine | None = None) -> DeviceProfile:
    """Describe this machine (or `machine`, if given) as a device called `host`.

    Its only mode is the clock governor, `default` where the system names none.

    Raises:
        DeviceError: `mode` is not the one that the machine is in.
    """
    from hwnas.device.fields import DeviceSpec

    machine = detect_machine() if machine is None else machine
    return profile_at(DeviceSpec.model_validate(_file(machine)), mode, "this machine")


def is_this_machine(device: DeviceProfile) -> bool:
    """Say whether a profile is of the machine that this runs on: `host`, or of this processor."""
    return device.id == HOST or device.spec.processor == detect_machine().processor


def _file(machine: Machine) -> dict[str, Any]:
    """Return the device file that somebody would write for the machine."""
    mode = machine.power_mode or NO_MODES
    rates = _best_rates(machine)
    return {
        "id": HOST,
        "name": machine.processor,
        "kind": "cpu",
        "description": "The machine that this runs on, detected.",
        "processor": machine.processor,
        "runtime": {"name": "tvm", "version": _tvm_version()},
        "threads": machine.threads,
        "default_mode": mode,
        "modes": {mode: {"description": "clock governor"}},
        "peak_tops_dense": {rate.dtype: _peak(rate, machine) for rate in rates.values()},
        "bandwidth_gbps": {
            "value": _ASSUMED_BANDWIDTH_GBPS,
            "status": "recalled",
            "source": "assumed for a machine with two memory channels, not measured",
        },
        "cache_bytes": {
            level: {"value": size, "status": "verified", "source": "operating system"}
            for level, size in machine.cache_bytes.items()
        },
        "ram_bytes": {
            "value": machine.ram_bytes, "status": "verified", "source": "operating system",
        },
        "pairs": _pairs(rates),
        "packed_weight_bits": [2, 4, 6, 8],
        "fallback": "fp32",
        "launch_us": {
            "value": 2.0, "status": "recalled", "source": "start value per layer, not fitted",
        },
        "tvm_target": {"kind": "llvm", "num-cores": machine.threads},
        "protocol": {"warmup": 2, "repeats": 20, "statistic": "minimum"},
    }  # fmt: skip


def _best_rates(machine: Machine) -> dict[str, _Rate]:
    """Pick the fastest rate of each data type; scalar fp32 where no flag is known."""
    best = {"fp32": _Rate((), "fp32", 2, "no known vector unit, one scalar FMA")}
    for rate in _RATES:
        known = best.get(rate.dtype)
        if machine.flags.issuperset(rate.flags) and (
            known is None or rate.per_cycle > known.per_cycle
        ):
            best[rate.dtype] = rate
    return best


def _peak(rate: _Rate, machine: Machine) -> dict[str, Any]:
    ghz = machine.clock_ghz or _ASSUMED_GHZ
    clock = f"{ghz:.2f} GHz" if machine.clock_ghz else f"{ghz:.2f} GHz assumed, clock unknown"
    return {
        "value": machine.threads * ghz * rate.per_cycle / 1000,
        "status": "derived" if machine.clock_ghz else "recalled",
        "source": f"{machine.threads} threads x {clock} x {rate.per_cycle:g} ({rate.name})",
    }


def _pairs(rates: dict[str, _Rate]) -> list[dict[str, Any]]:
    """List one native pair for each width, the first data type of a width winning."""
    pairs: dict[tuple[int, int], str] = {}
    for dtype in ("int8", "fp16", "bf16", "fp32"):
        if dtype in rates:
            pairs.setdefault(OPERAND_BITS[dtype], dtype)
    return [{"w": w, "a": a, "runs_as": dtype} for (w, a), dtype in pairs.items()]


def _tvm_version() -> str | None:
    try:
        return version("apache-tvm")
    except PackageNotFoundError:
        return None
