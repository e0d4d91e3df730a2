"""What the operating system says about the machine that this runs on."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

__all__ = ["Machine", "detect_machine", "machine_from_cpuinfo"]

_ARM_PARTS: Final[dict[str, str]] = {
    "0xd03": "Arm Cortex-A53",
    "0xd05": "Arm Cortex-A55",
    "0xd07": "Arm Cortex-A57",
    "0xd08": "Arm Cortex-A72",
    "0xd0b": "Arm Cortex-A76",
    "0xd0c": "Arm Neoverse N1",
    "0xd40": "Arm Neoverse V1",
    "0xd41": "Arm Cortex-A78",
    "0xd42": "Arm Cortex-A78AE",
    "0xd49": "Arm Neoverse N2",
    "0xd4f": "Arm Neoverse V2",
}

_SIZE_UNITS: Final = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclass(frozen=True, slots=True)
class Machine:
    """A processor and its memory.

    Attributes:
        processor: Model as the system names it.
        architecture: `x86_64`, `aarch64`, ...
        flags: Instruction sets, in Linux' spelling (`avx512_vnni`, `asimddp`).
        threads: Processors that this process may use.
        clock_ghz: Highest clock known; None where the system does not say.
        power_mode: Clock governor; None where the system does not say.
        cache_bytes: By level, of one core or shared.
    """

    processor: str
    architecture: str
    flags: frozenset[str]
    threads: int
    ram_bytes: int
    clock_ghz: float | None = None
    power_mode: str | None = None
    cache_bytes: Mapping[str, int] = field(default_factory=dict)


def detect_machine() -> Machine:
    """Ask the operating system: /proc and /sys on Linux, sysctl on macOS."""
    if sys.platform == "darwin":
        return _macos()
    cpuinfo = _text(Path("/proc/cpuinfo")) or ""
    cpu0 = Path("/sys/devices/system/cpu/cpu0")
    return machine_from_cpuinfo(
        cpuinfo,
        board=_text(Path("/proc/device-tree/model")),
        threads=_usable_threads(),
        ram_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        max_khz=_text(cpu0 / "cpufreq" / "cpuinfo_max_freq"),
        governor=_text(cpu0 / "cpufreq" / "scaling_governor"),
        cache_bytes=_linux_caches(cpu0 / "cache"),
    )


def machine_from_cpuinfo(
    cpuinfo: str,
    *,
    threads: int,
    ram_bytes: int,
    board: str | None = None,
    max_khz: str | None = None,
    governor: str | None = None,
    cache_bytes: Mapping[str, int] | None = None,
) -> Machine:
    """Read the text of /proc/cpuinfo, of x86 or of Arm, and what /sys adds to it."""
    part = _field(cpuinfo, "CPU part")
    core = _field(cpuinfo, "model name") or (_ARM_PARTS.get(part) if part else None)
    processor = ", ".join(filter(None, (core, board))) or _architecture()
    mhz = _field(cpuinfo, "cpu MHz")
    ghz = float(max_khz) / 1e6 if max_khz else float(mhz) / 1e3 if mhz else None
    return Machine(
        processor=re.sub(r"\s+", " ", processor),
        architecture=_architecture(),
        flags=frozenset((_field(cpuinfo, "flags") or _field(cpuinfo, "Features") or "").split()),
        threads=threads,
        ram_bytes=ram_bytes,
        clock_ghz=ghz,
        power_mode=governor,
        cache_bytes=dict(cache_bytes or {}),
    )


def _field(cpuinfo: str, name: str) -> str | None:
    match = re.search(rf"^{re.escape(name)}\s*:\s*(\S.*)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else None


def _usable_threads() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _linux_caches(folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for index in sorted(folder.glob("index*")):
        level, size = _text(index / "level"), _text(index / "size")
        if _text(index / "type") != "Instruction" and level and size and size[-1] in _SIZE_UNITS:
            found[f"l{level}"] = int(size[:-1]) * _SIZE_UNITS[size[-1]]
    return found


def _macos() -> Machine:
    features = {"hw.optional.arm.FEAT_DotProd": "asimddp", "hw.optional.arm.FEAT_FP16": "asimdhp",
                "hw.optional.arm.FEAT_I8MM": "i8mm", "hw.optional.avx2_0": "avx2",
                "hw.optional.fma": "fma", "hw.optional.avx512f": "avx512f"}  # fmt: skip
    flags = {flag for key, flag in features.items() if _sysctl(key) == "1"}
    arm = _architecture() == "arm64"
    hertz, memory = _sysctl("hw.cpufrequency_max"), _sysctl("hw.memsize")
    return Machine(
        processor=_sysctl("machdep.cpu.brand_string") or _architecture(),
        architecture="aarch64" if arm else _architecture(),
        flags=frozenset(flags | ({"asimd"} if arm else {"sse2"})),
        threads=os.cpu_count() or 1,
        ram_bytes=int(memory)
        if memory
        else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        clock_ghz=float(hertz) / 1e9 if hertz else None,
    )


def _architecture() -> str:
    import platform  # it and subprocess are slow to import, and most who list devices need neither

    return platform.machine()


def _sysctl(key: str) -> str | None:
    import subprocess

    try:
        done = subprocess.run(
            ["sysctl", "-n", key], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def _text(path: Path) -> str | None:
    """Return a file of the system's without its end; None where it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\x00\n ") or None
    except OSError:
        return None
