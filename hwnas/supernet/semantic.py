"""Semantic segmentation without prompts: a mask decoder with one mask for each class.

Source: SAMed (Zhang and Liu, 2023): all mask tokens are read out, token 0 for the background. We
keep SAM's pixel normalization, because our images are natural ones in 0..255.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hwnas.data.classes import MAX_CLASSES
from hwnas.data.confusion import ClassScores, class_scores, confusion
from hwnas.data.labeled import LabeledImage
from hwnas.data.transforms import postprocess
from hwnas.data.views import View
from hwnas.errors import DataError
from hwnas.supernet.decoder import decode_semantic
from hwnas.supernet.evaluation import Embed
from hwnas.supernet.input_cache import InputCache

__all__ = [
    "SemanticEvaluator",
    "classes_of",
    "predict_classes",
    "semantic_head",
    "semantic_targets",
]


def semantic_head(sam: Any, classes: Sequence[str], seed: int) -> None:
    """Give the mask decoder of `sam` one mask token for the background and each class, in place.

    Mask tokens, their hyper-networks and the IoU head are new, drawn with `seed`; everything else
    keeps its weights. The names stay on the model as `sam.classes`. One class is a binary task.

    Raises:
        DataError: no class, or more than 254.
    """
    if not 1 <= len(classes) <= MAX_CLASSES:
        raise DataError(f"{len(classes)} classes; expected 1 to {MAX_CLASSES}")
    from segment_anything.modeling.mask_decoder import MLP

    decoder = sam.mask_decoder
    device = decoder.mask_tokens.weight.device
    width, count = decoder.transformer_dim, len(classes) + 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokens = nn.Embedding(count, width)
        heads = nn.ModuleList(MLP(width, width, width // 8, 3) for _ in range(count))
        iou = MLP(width, decoder.iou_prediction_head.layers[0].out_features, count, 3)
    decoder.num_multimask_outputs, decoder.num_mask_tokens = len(classes), count
    decoder.mask_tokens = tokens.to(device)
    decoder.output_hypernetworks_mlps = heads.to(device)
    decoder.iou_prediction_head = iou.to(device)
    decoder.train(decoder.training)
    sam.classes = tuple(classes)


def classes_of(sam: Any) -> tuple[str, ...] | None:
    """The classes that `semantic_head` gave a model; None for one that takes prompts."""
    found: tuple[str, ...] | None = getattr(sam, "classes", None)
    return found


def semantic_targets(views: Sequence[View], side: int) -> torch.Tensor:
    """Classes of views (R, R) at the decoder's `side` = R/4, int64 (B, side, side).

    Nearest neighbor, at the middle of each cell; 255 where ignored and in the padding.
    """
    maps = []
    for view in views:
        step = view.instances.shape[0] // side
        maps.append(view.semantic[step // 2 :: step, step // 2 :: step])
    return torch.from_numpy(np.stack(maps).astype(np.int64))


@torch.no_grad()
def predict_classes(sam: Any, embedding: torch.Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The class of each pixel (H, W) at the original `size` from an embedding (1, 256, g, g)."""
    logits = decode_semantic(sam, embedding)[0].float()
    classes: NDArray[np.uint8] = postprocess(logits, size).argmax(0).byte().cpu().numpy()
    return classes


class SemanticEvaluator:
    """Scores label maps of fixed images; inputs are prepared once for many subnets.

    Raises:
        DataError: the model has no semantic head, or its classes are not those of the images.
    """

    def __init__(self, sam: Any, images: Sequence[LabeledImage]) -> None:
        classes = classes_of(sam)
        if classes is None:
            raise DataError(
                "this model has no semantic head, so it needs box or point prompts; train one on "
                "the semantic task"
            )
        wrong = [image for image in images if image.classes != classes]
        if wrong:
            raise DataError(
                f"{wrong[0].name}: the data has the classes {', '.join(wrong[0].classes)}, the "
                f"model {', '.join(classes)}; evaluate on data of the same classes file"
            )
        self._sam, self._images, self._classes = sam, images, classes
        self._inputs = InputCache(images)

    @torch.no_grad()
    def score(self, embed: Embed, resolution: int) -> ClassScores:
        """Class IoU of an embedding; `embed` maps (B, 3, R, R) to (B, 256, g, g)."""
        device = next(self._sam.mask_decoder.parameters()).device
        matrices = []
        for rows, inputs in self._inputs.batches(range(len(self._images)), resolution, device):
            for row, embedding in zip(rows, embed(inputs), strict=True):
                image = self._images[row]
                found = predict_classes(self._sam, embedding[None], image.size)
                matrices.append(confusion(found, image.semantic, len(self._classes)))
        return class_scores(matrices, self._classes)
