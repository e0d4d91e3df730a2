"""Make `import segment_anything` work beside a torch without CUDA.

`segment_anything` imports torchvision. The registry's torchvision wheel links CUDA libraries, so
on a CPU-only torch its operators cannot load and `import torchvision` fails while it registers
fake kernels for schemas that do not exist. Declaring the two schemas first is enough: only
`segment_anything`'s mask generator calls `nms`, and we never do.

Remove when torchvision imports beside a CPU torch of the same registry.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path

import torch

__all__ = ["ensure_torchvision"]

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
# A torch library lives as long as its object; dropping it would take the schemas away again.
_KEEP: list[torch.library.Library] = []


def ensure_torchvision() -> str:
    """Prepare torchvision for import; call it before `segment_anything` is imported.

    Returns `"already"` (torchvision is imported or was prepared), `"native"` (its compiled
    operators load), `"schemas-only"` (declared here) or `"missing"` (not installed).
    """
    if _KEEP or "torchvision" in sys.modules:
        return "already"
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return "missing"
    if _operators_load(Path(spec.origin).parent):
        return "native"
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _KEEP.append(library)
    return "schemas-only"


def _operators_load(folder: Path) -> bool:
    extension = next(iter(sorted(folder.glob("_C*.so"))), None)
    if extension is None:
        return False
    try:
        ctypes.CDLL(str(extension))
    except OSError:
        return False
    return True
