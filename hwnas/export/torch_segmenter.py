"""A model in PyTorch where the ONNX files' `Segmenter` is expected: to compare runtimes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from hwnas.export.run import Segmenter
from hwnas.supernet.prompt_decoder import PromptDecoder
from hwnas.supernet.prompting import EmbeddedPrompts, embed_prompts

__all__ = ["TorchSegmenter"]

_FIRST_CORNER = 2  # label of a box's first point
Encoder = Callable[[torch.Tensor], torch.Tensor]


class TorchSegmenter(Segmenter):
    """An encoder (1, 3, R, R) to (1, 256, g, g), and the decoders of `sam`."""

    def __init__(self, encoder: Encoder, sam: Any, resolution: int) -> None:
        self.resolution = resolution
        self._encode, self._sam, self._decode = encoder, sam, PromptDecoder(sam)

    @torch.inference_mode()
    def embed_input(self, image: Any) -> Any:
        """Embed a normalized square (1, 3, R, R)."""
        return self._encode(torch.from_numpy(image)).numpy()

    @torch.inference_mode()
    def logits(self, embedding: Any, points: Any, labels: Any) -> tuple[Any, Any]:
        """Logits (P, R / 4, R / 4) of boxes, or of single points; their IoU is not predicted."""
        given = torch.from_numpy(points)
        boxes, single = given.reshape(1, -1, 4), given[None, :, :1]
        is_box = labels[0, 0] == _FIRST_CORNER
        some = (boxes, single[:, :0]) if is_box else (boxes[:, :0], single)
        embedded = embed_prompts(self._sam, *some, self.resolution)
        drawn = None if embedded.boxes is None else embedded.boxes[0]
        prompts = EmbeddedPrompts(embedded.sparse[0], drawn)
        return self._decode(torch.from_numpy(embedding)[0], prompts).numpy(), None
