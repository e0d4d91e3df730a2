"""What a run depends on besides its config: versions, machine, input files."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from hwnas.records.files import explained

__all__ = ["describe_environment", "hash_file", "hash_inputs"]

_PACKAGES = ("hwnas", "numpy", "pymoo", "moocore", "scipy", "torch", "xgboost-cpu", "apache-tvm")
_CHUNK_BYTES = 1 << 20


def describe_environment() -> dict[str, object]:
    """Versions and machine, as plain JSON; packages that are not installed are left out."""
    packages: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "packages": packages,
    }


def hash_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex.

    Raises:
        RunError: it cannot be read.
    """
    digest = hashlib.sha256()
    with explained("read", path), path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def hash_inputs(paths: Iterable[Path]) -> dict[str, str]:
    """sha256 by path, of every file named and every file below every folder named."""
    hashes: dict[str, str] = {}
    for path in paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        hashes.update({str(file): hash_file(file) for file in files})
    return hashes
