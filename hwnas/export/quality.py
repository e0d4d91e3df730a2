"""IoU of an exported folder in ONNX Runtime, from picture to mask, beside that of the supernet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.data.labeled import LabeledImage
from hwnas.data.scores import mean_of_images
from hwnas.data.truths import Truths, prepare_truths, score_window
from hwnas.export.run import Segmenter, coordinates
from hwnas.supernet.evaluation import PROMPT_KINDS, Evaluator, ImageScores, PromptKind
from hwnas.supernet.mask_windows import windowed_masks
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["QualityPair", "compare_quality", "segmenter_scores", "truths_of"]

_CHUNK = 16  # prompts decoded together
_POINTS = 100.0


@dataclass(frozen=True, slots=True)
class QualityPair:
    """Mean IoU over images with one kind of prompt, exported and in the supernet."""

    prompt: PromptKind
    images: int
    objects: int
    exported: float
    error: float | None
    supernet: float
    difference: float
    difference_error: float | None

    @property
    def points(self) -> float:
        """Exported minus supernet, in points (hundredths) of IoU."""
        return _POINTS * self.difference

    @property
    def points_error(self) -> float:
        """Standard error of `points`, from the differences of the same images."""
        return _POINTS * (self.difference_error or 0.0)

    def within(self, tolerance: float) -> bool:
        """Whether the difference is at most `tolerance` points, give or take two standard errors.

        A code that rounding moves to its neighbor changes a mask at random, by more than the
        tolerance on one image; only the mean over images says whether quality is lost.
        """
        return abs(self.points) <= tolerance + 2 * self.points_error

    def __str__(self) -> str:
        """One clause for people."""
        error = (
            "" if self.difference_error is None else f" (standard error {self.points_error:.2f})"
        )
        return (
            f"IoU {self.exported:.4f} with {self.prompt} prompts, the supernet's is "
            f"{self.supernet:.4f}: {self.points:+.2f} points{error}"
        )


def compare_quality(
    segmenter: Segmenter, supernet: SamSupernet, plan: EncoderPlan, images: Sequence[LabeledImage],
    *, max_prompts: int | None = None, seed: int = 0,
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[QualityPair, ...]:  # fmt: skip
    """Score the same objects of the same images both ways.

    At most `max_prompts` objects of an image are prompted, drawn with `seed` and its index.
    """
    truths = truths_of(images, max_prompts=max_prompts, seed=seed)
    evaluator = Evaluator(supernet.sam, images, truths, prompts=PROMPT_KINDS)
    expected = evaluator.score(lambda x: supernet.embed(x, plan), plan.resolution)
    found = segmenter_scores(segmenter, images, truths, advance=advance)
    return tuple(_pair(kind, found[kind], expected[kind]) for kind in PROMPT_KINDS)


def truths_of(
    images: Sequence[LabeledImage], *, max_prompts: int | None, seed: int
) -> list[Truths]:
    """What is prompted in each image: all objects, or `max_prompts` drawn by seed and index."""
    return [
        prepare_truths(image, max_instances=max_prompts, rng=np.random.default_rng([seed, index]))
        for index, image in enumerate(images)
    ]


def segmenter_scores(
    segmenter: Segmenter, images: Sequence[LabeledImage], truths: Sequence[Truths], *,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[PromptKind, list[NDArray[np.float64]]]:  # fmt: skip
    """IoU of every object by kind of prompt, for each image that has objects."""
    found: dict[PromptKind, list[NDArray[np.float64]]] = {kind: [] for kind in PROMPT_KINDS}
    for done, (image, truth) in enumerate(zip(images, truths, strict=True), start=1):
        if truth.objects:
            embedding = segmenter.embed(image.image)
            for kind in PROMPT_KINDS:
                found[kind].append(_scores(segmenter, embedding, truth, kind))
        advance(done)
    return found


def _pair(
    kind: PromptKind, found: list[NDArray[np.float64]], expected: Sequence[ImageScores]
) -> QualityPair:
    theirs = [scores.iou for scores in expected if len(scores.iou)]
    iou, error = mean_of_images(found)
    gaps = [ours - other for ours, other in zip(found, theirs, strict=True)]
    return QualityPair(
        kind, len(found), sum(map(len, found)), iou, error, mean_of_images(theirs)[0],
        *mean_of_images(gaps),
    )  # fmt: skip


def _scores(
    segmenter: Segmenter, embedding: NDArray[np.float32], truths: Truths, kind: PromptKind
) -> NDArray[np.float64]:
    """IoU of every object of one image."""
    given: list[tuple[Any, Any]] = [((point,), (1,)) for point in truths.prompts.points]
    if kind == "box":
        given = [((box[:2], box[2:]), (2, 3)) for box in truths.prompts.boxes]
    fed = [coordinates(one, truths.size, segmenter.resolution) for one in given]
    scores = []
    for start in range(0, len(fed), _CHUNK):
        points, labels = (
            np.concatenate(part) for part in zip(*fed[start : start + _CHUNK], strict=True)
        )
        logits, _ = segmenter.logits(embedding, points, labels)
        masks = windowed_masks(torch.from_numpy(logits), truths.size)
        objects = truths.objects[start : start + _CHUNK]
        scores += [
            score_window(truths, truth, mask, window)[0]
            for truth, (mask, window) in zip(objects, masks, strict=True)
        ]
    return np.array(scores)
