"""The full-precision model that a supernet was made of, as it was before anything was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.supernet.checkpoint import load_sam, sam_of
from hwnas.supernet.supernet_file import is_supernet_file, read_supernet_file
from hwnas.workload.sam_geometry import GEOMETRIES

__all__ = ["load_base"]


def load_base(name_or_path: str | Path) -> Any:
    """Build the base of a shipped name, of a supernet file, or of a plain checkpoint.

    A supernet file without weights names a shipped model by its geometry.

    Raises:
        CheckpointError: the file cannot be read, or its base is not at hand.
    """
    named = str(name_or_path) in GEOMETRIES
    if named or not is_supernet_file(name_or_path):
        return load_sam(name_or_path)
    file = read_supernet_file(name_or_path)
    if file.base_weights is None:
        return load_sam(file.geometry.name)
    return sam_of(file.geometry, file.base_weights, source=str(name_or_path))
