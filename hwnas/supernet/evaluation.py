"""Masks for prompts at the original size, and their agreement with annotated objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.data.labeled import LabeledImage
from hwnas.data.prompts import Prompts
from hwnas.data.transforms import postprocess, preprocess
from hwnas.data.truths import Truths, prepare_truths, score_window
from hwnas.errors import ConfigError
from hwnas.supernet.input_cache import InputCache
from hwnas.supernet.mask_windows import windowed_masks
from hwnas.supernet.prompt_decoder import PromptDecoder
from hwnas.supernet.prompting import EmbeddedPrompts, embed_prompts
from hwnas.supernet.sam_model import encode

__all__ = [
    "PROMPT_KINDS",
    "Embed",
    "Evaluator",
    "ImageScores",
    "PromptKind",
    "embed_in_pixels",
    "evaluate_image",
    "evaluate_images",
    "predict_masks",
    "segment",
]

PromptKind = Literal["box", "point"]
PROMPT_KINDS: tuple[PromptKind, ...] = ("box", "point")
Embed = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """IoU of the n prompted objects of one image (n,), and boundary IoU where it was asked for."""

    iou: NDArray[np.float64]
    boundary_iou: NDArray[np.float64] | None


class Evaluator:
    """Scores embeddings of fixed images with fixed prompts: what subnets share is done once.

    Inputs of each resolution, prompt tokens, masks and border bands of the objects are kept.
    Several kinds of prompts share the embedding and are decoded together. The prompt encoder and
    mask decoder of `sam` are used as they are; call `forget` after they changed.
    """

    def __init__(
        self,
        sam: Any,
        images: Sequence[LabeledImage],
        truths: Sequence[Truths],
        *,
        prompts: Sequence[PromptKind],
    ) -> None:
        self._sam, self._prompts = sam, tuple(prompts)
        self._inputs = InputCache(images)
        self.truths = tuple(truths)
        self.forget()

    @classmethod
    def of(
        cls,
        sam: Any,
        images: Sequence[LabeledImage],
        *,
        prompts: Sequence[PromptKind] = ("box",),
        max_instances: int | None = None,
        seed: int = 0,
        boundary: bool = False,
    ) -> Evaluator:
        """Prompt every object, or `max_instances` of each image, drawn by seed and image index.

        Raises ConfigError for a model with a semantic head, which takes no prompts.
        """
        classes = getattr(sam, "classes", None)
        if classes is not None:
            raise ConfigError(
                f"this model segments the classes {', '.join(classes)} without prompts; "
                "evaluate it with --prompt none"
            )
        truths = [
            prepare_truths(
                labeled,
                max_instances=max_instances,
                rng=np.random.default_rng([seed, index]),
                boundary=boundary,
            )
            for index, labeled in enumerate(images)
        ]
        return cls(sam, images, truths, prompts=prompts)

    def forget(self) -> None:
        """Drop what depends on the weights of the prompt encoder and the mask decoder."""
        self._decoder = PromptDecoder(self._sam)
        self._embedded: dict[tuple[int, int], EmbeddedPrompts] = {}

    @torch.no_grad()
    def score(self, embed: Embed, resolution: int) -> dict[PromptKind, list[ImageScores]]:
        """For each kind of prompt the scores of each image.

        `embed` maps (B, 3, R, R) to (B, 256, g, g). Images go in batches, so it must treat them
        independently. An image without objects is not embedded and has empty scores.
        """
        rows = [i for i, truths in enumerate(self.truths) if truths.objects]
        empty = ImageScores(np.zeros(0), None)
        found = {kind: [empty] * len(self.truths) for kind in self._prompts}
        device = next(self._sam.mask_decoder.parameters()).device
        for part, images in self._inputs.batches(rows, resolution, device):
            for row, embedding in zip(part, embed(images), strict=True):
                prompts = self._embed_prompts(row, resolution, embedding.device)
                logits = self._decoder(embedding, prompts).chunk(len(self._prompts))
                for kind, masks in zip(self._prompts, logits, strict=True):
                    found[kind][row] = _scores(masks, self.truths[row])
        return found

    def _embed_prompts(self, row: int, resolution: int, device: torch.device) -> EmbeddedPrompts:
        """All prompts of an image, kind after kind; every kind has two tokens."""
        key = (row, resolution)
        if key not in self._embedded:
            truths = self.truths[row]
            self._embedded[key] = embed_in_pixels(
                self._sam, truths.prompts, truths.size, resolution, self._prompts, device
            )
        return self._embedded[key]


def evaluate_image(
    sam: Any,
    labeled: LabeledImage,
    *,
    resolution: int,
    prompt: PromptKind,
    embed: Embed | None = None,
    max_instances: int | None = None,
    rng: np.random.Generator | None = None,
) -> NDArray[np.float64]:
    """IoU at the original size for every object of one image; (n,).

    `embed` maps (B, 3, R, R) to (B, 256, g, g); the model's own encoder if not given.
    `max_instances` objects are drawn by `rng` where there are more (all by default).
    """
    truths = prepare_truths(labeled, max_instances=max_instances, rng=rng)
    evaluator = Evaluator(sam, [labeled], [truths], prompts=[prompt])
    return evaluator.score(embed or _own(sam), resolution)[prompt][0].iou


def evaluate_images(
    sam: Any,
    images: Sequence[LabeledImage],
    *,
    resolution: int,
    prompt: PromptKind,
    embed: Embed | None = None,
    max_instances: int | None = None,
    seed: int = 0,
) -> list[NDArray[np.float64]]:
    """`evaluate_image` for each image; a capped draw depends on the seed and the image's index.

    For many subnets make one `Evaluator` and keep it.
    """
    evaluator = Evaluator.of(sam, images, prompts=[prompt], max_instances=max_instances, seed=seed)
    return [scores.iou for scores in evaluator.score(embed or _own(sam), resolution)[prompt]]


@torch.no_grad()
def predict_masks(
    sam: Any,
    embedding: torch.Tensor,
    size: tuple[int, int],
    prompts: Prompts,
    *,
    prompt: PromptKind,
) -> torch.Tensor:
    """Masks (n, H, W) bool at the original `size` for n prompts on one embedding (1, 256, g, g).

    Boxes or center-most points are in pixels of the original image.
    """
    resolution = embedding.shape[-1] * sam.geometry.patch
    embedded = embed_in_pixels(sam, prompts, size, resolution, [prompt], embedding.device)
    return postprocess(PromptDecoder(sam)(embedding[0], embedded), size) > 0


@torch.no_grad()
def segment(
    sam: Any,
    image: NDArray[np.uint8],
    prompts: Prompts,
    *,
    resolution: int,
    prompt: PromptKind,
) -> NDArray[np.bool_]:
    """Masks (n, H, W) of one image (H, W, 3) for n prompts, by the model's own encoder."""
    embedding = encode(sam, preprocess(image, resolution)[None])
    size = (image.shape[0], image.shape[1])
    masks: NDArray[np.bool_] = predict_masks(sam, embedding, size, prompts, prompt=prompt).numpy()
    return masks


def _own(sam: Any) -> Embed:
    return lambda images: encode(sam, images)


def embed_in_pixels(
    sam: Any,
    prompts: Prompts,
    size: tuple[int, int],
    resolution: int,
    kinds: Sequence[PromptKind],
    device: torch.device,
) -> EmbeddedPrompts:
    """Embed prompts in pixels of an image of `size`: all of a kind, kind after kind."""
    scale = resolution / max(size)
    boxes = torch.from_numpy(prompts.boxes).to(device) * scale
    points = (torch.from_numpy(prompts.points).to(device)[:, None] + 0.5) * scale - 0.5
    parts = [
        embed_prompts(
            sam,
            boxes[None] if kind == "box" else boxes[None, :0],
            points[None] if kind == "point" else points[None, :0],
            resolution,
        )
        for kind in kinds
    ]
    drawn = [part.boxes[0] for part in parts if part.boxes is not None]
    sparse = torch.cat([part.sparse[0] for part in parts])
    return EmbeddedPrompts(sparse, torch.cat(drawn) if drawn else None)


def _scores(logits: torch.Tensor, truths: Truths) -> ImageScores:
    pairs = list(_pairs(logits, truths))
    iou = np.array([pair[0] for pair in pairs])
    bands = [pair[1] for pair in pairs if pair[1] is not None]
    return ImageScores(iou, np.array(bands) if len(bands) == len(iou) else None)


def _pairs(logits: torch.Tensor, truths: Truths) -> Iterator[tuple[float, float | None]]:
    masks = windowed_masks(logits, truths.size)
    for truth, (mask, window) in zip(truths.objects, masks, strict=True):
        yield score_window(truths, truth, mask, window)
