"""The ONNX files of a deploy folder in OpenVINO, where ONNX Runtime's `Segmenter` is expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.export.run import Segmenter

__all__ = ["OpenVinoSegmenter"]


class OpenVinoSegmenter(Segmenter):
    """Image encoder and mask decoder of a folder in OpenVINO; `threads` 0 is its own choice.

    What is not quantized is computed in float32: without the hint OpenVINO takes bfloat16 on
    processors that have it, which no other runtime here does.
    """

    def __init__(self, folder: str | Path, resolution: int, *, threads: int = 0) -> None:
        import openvino  # type: ignore[import-untyped]

        self.resolution = resolution
        hints: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # other runtimes take turns on the same cores
        }
        if threads:
            hints["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        self._networks = tuple(
            core.compile_model(str(Path(folder) / name), "CPU", hints)
            for name in ("encoder.onnx", "decoder.onnx")
        )

    def embed_input(self, image: Any) -> Any:
        """Embed a normalized square (1, 3, R, R)."""
        return self._networks[0]([image])[0]

    def logits(self, embedding: Any, points: Any, labels: Any) -> tuple[Any, Any]:
        """Logits (P, R / 4, R / 4) and predicted IoU of prompts in pixels of the input."""
        found = self._networks[1]([embedding, points, labels])
        return found[0], found[1]
