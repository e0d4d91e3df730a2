"""A TVM module where the ONNX files' `Segmenter` is expected: to verify it, and to compare both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.export.run import Segmenter
from hwnas.export.tvm.runner import TvmModule

__all__ = ["TvmSegmenter"]


class TvmSegmenter(Segmenter):
    """Image encoder and mask decoder of a TVM module, with the pictures in and out of `run.py`.

    Args:
        folder: Of the module.
        threads: As for `TvmModule`; 0: as many as its device has.

    Raises:
        ModuleError: the module cannot be used here.
    """

    def __init__(self, folder: str | Path, *, threads: int = 0) -> None:
        self.module = TvmModule(folder, threads=threads or None)
        self.resolution = self.module.resolution

    def embed_input(self, image: Any) -> Any:
        """Embed a normalized square (1, 3, R, R)."""
        return self.module.embed_input(image)

    def logits(self, embedding: Any, points: Any, labels: Any) -> tuple[Any, Any]:
        """Logits (P, R / 4, R / 4) and predicted IoU of boxes and of single points."""
        return self.module.logits(embedding, points, labels)
