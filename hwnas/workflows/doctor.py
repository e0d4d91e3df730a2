"""`hwnas doctor`: is this installation able to do its work?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import hwnas
from hwnas.device import listing
from hwnas.device.machine import detect_machine
from hwnas.errors import HwnasError
from hwnas.registry import cost_models, search_spaces

__all__ = ["CheckResult", "doctor"]

Level = Literal["ok", "warning", "error"]

_ROOT: Final = Path(hwnas.__file__).resolve().parent
_SHIPPED: Final = ("nuclei/image.png", "nuclei/instances.png", "sam_vit_t.safetensors.gz")
_GIB: Final = 2**30
_TIMEOUT_S: Final = 180

_SEGMENT_ANYTHING: Final = """
from hwnas.supernet.torchvision_shim import ensure_torchvision
state = ensure_torchvision()
import segment_anything
print(state)
"""

# Versions of apache-tvm-ffi from 0.1.15 on crash the process in save_json, which nothing but a try
# in another process can find out.
_SAVE_JSON: Final = """
import tvm
tvm.ir.save_json(tvm.IRModule())
print(tvm.__version__)
"""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of the doctor's report; an `error` keeps the default search from running."""

    check: str
    level: Level
    message: str


def doctor(*, quick: bool = False) -> list[CheckResult]:
    """Check versions, optional parts, the machine, shipped files, plug-ins and devices.

    Nothing is raised for what is wrong, and nothing is changed. Takes some seconds: torch and TVM
    are imported in processes of their own, where a crash is only a finding. With `quick` nothing
    is compiled or timed.
    """
    return [
        CheckResult("python", "ok", f"{platform.python_version()} at {sys.executable}"),
        *_packages(),
        _segment_anything(),
        _tvm(),
        *([] if quick else _measuring()),
        *_machine(),
        *_shipped(),
        *_plugins(),
        *_devices(),
    ]


def _packages() -> Iterator[CheckResult]:
    try:
        requirements = importlib.metadata.requires("hwnas") or []
    except importlib.metadata.PackageNotFoundError:
        yield CheckResult(
            "packages", "error", "hwnas is not installed, so no plug-in is known: pip install hwnas"
        )
        return
    extras: dict[str | None, list[str]] = {None: []}
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name is not None:
            extras.setdefault(extra[1] if extra else None, []).append(name[0])
    for extra_name, names in extras.items():
        if extra_name != "dev":
            yield _package_group(extra_name, names)


def _package_group(extra: str | None, names: list[str]) -> CheckResult:
    versions = {name: _version(name) for name in names}
    missing = [name for name, version in versions.items() if version is None]
    check = "packages" if extra is None else f"extra {extra}"
    if not missing:
        found = ", ".join(f"{name} {version}" for name, version in versions.items())
        return CheckResult(check, "ok", found)
    wanted = "hwnas" if extra is None else f"'hwnas[{extra}]'"
    message = f"not installed: {', '.join(missing)}; pip install {wanted}"
    return CheckResult(check, "error" if extra is None else "warning", message)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _segment_anything() -> CheckResult:
    problem, printed = _tried(_SEGMENT_ANYTHING)
    if problem is not None:
        return CheckResult("segment_anything", "error", f"does not import: {problem}")
    how = {
        "native": "torchvision's compiled operators load",
        "schemas-only": "torchvision's operators do not load; declared, so that it imports",
    }
    return CheckResult("segment_anything", "ok", f"imports; {how.get(printed, printed)}")


def _tvm() -> CheckResult:
    if _version("apache-tvm") is None:
        message = "not installed; only measuring needs it: pip install 'hwnas[tvm]'"
        return CheckResult("tvm", "warning", message)
    problem, printed = _tried(_SAVE_JSON)
    if problem is None:
        return CheckResult("tvm", "ok", f"{printed} imports, and tvm.ir.save_json works")
    pin = "pip install 'apache-tvm-ffi>=0.1.14.post0,<0.1.15'"
    return CheckResult("tvm", "warning", f"import or tvm.ir.save_json fails: {problem}; try {pin}")


def _measuring() -> list[CheckResult]:
    """Compile, run and time a kernel, where TVM is installed."""
    if _version("apache-tvm") is None:
        return []
    from hwnas.workflows.doctor_measuring import measuring

    return [CheckResult(f.check, f.level, f.message) for f in measuring()]


def _tried(code: str) -> tuple[str | None, str]:
    """Run `code` in a fresh interpreter; return what went wrong, or None, and what it printed."""
    path = os.pathsep.join(filter(None, (str(_ROOT.parent), os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": path},
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_TIMEOUT_S} s", ""
    if done.returncode < 0:
        return f"the process died of signal {-done.returncode}", ""
    if done.returncode > 0:
        return (done.stderr.strip().splitlines() or ["no message"])[-1], ""
    return None, (done.stdout.strip().splitlines() or [""])[-1]


def _machine() -> Iterator[CheckResult]:
    machine = detect_machine()
    memory, disk = machine.ram_bytes / _GIB, shutil.disk_usage(Path.cwd()).free / _GIB
    yield CheckResult("processor", "ok", f"{machine.processor}, {machine.threads} threads")
    yield _enough("memory", memory, 4, "the default search needs about that much")
    yield _enough("disk", disk, 1, "run folders and checkpoints need room here")


def _enough(check: str, found: float, needed: float, reason: str) -> CheckResult:
    if found >= needed:
        return CheckResult(check, "ok", f"{found:.1f} GiB")
    return CheckResult(check, "warning", f"{found:.1f} GiB, below {needed:g} GiB; {reason}")


def _shipped() -> Iterator[CheckResult]:
    assets = [_ROOT / "assets" / name for name in _SHIPPED]
    missing = [str(path) for path in assets if not path.is_file() or path.stat().st_size == 0]
    if missing:
        text = f"missing or empty: {', '.join(missing)}; install the package again"
        yield CheckResult("shipped files", "error", text)
    else:
        yield CheckResult("shipped files", "ok", ", ".join(_SHIPPED))


def _plugins() -> Iterator[CheckResult]:
    for registry in (cost_models, search_spaces):
        loaded = []
        try:
            entries = registry.listing()
        except HwnasError as error:
            yield CheckResult(f"{registry.kind}s", "error", str(error))
            continue
        for entry in entries:
            try:
                registry.load(entry.name)
                loaded.append(entry.name)
            except HwnasError as error:
                level: Level = "error" if entry.distribution == "hwnas" else "warning"
                yield CheckResult(f"{registry.kind} {entry.name}", level, str(error))
        yield CheckResult(f"{registry.kind}s", "ok", ", ".join(loaded) or "none installed")


def _devices() -> Iterator[CheckResult]:
    entries = listing()
    for entry in entries:
        if entry.problem is not None:
            yield CheckResult(f"device {entry.id}", "warning", entry.problem)
    usable = [entry for entry in entries if entry.problem is None]
    built_in = sum(entry.origin == "built-in" for entry in usable)
    level: Level = "ok" if built_in else "error"
    yield CheckResult("devices", level, f"{len(usable)} known, {built_in} of them built in")
