"""Measure how well a model segments annotated objects from boxes and points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.data.baselines import BASELINES
from hwnas.data.labeled import LabeledImage
from hwnas.data.prompts import Prompts, prompts_of
from hwnas.data.scores import iou_of_masks, mean_with_error
from hwnas.errors import ConfigError, DataError
from hwnas.supernet.checkpoint import load_sam
from hwnas.supernet.evaluation import Embed, PromptKind, evaluate_images
from hwnas.supernet.supernet_file import is_supernet_file
from hwnas.supernet.training.finetuning.kept import is_finetuned
from hwnas.supernet.training.finetuning.opening import open_together
from hwnas.supernet.training.pretraining.features import fused_embedding
from hwnas.workflows.evaluate.data import open_data

__all__ = ["Score", "evaluate_baselines", "evaluate_model"]


@dataclass(frozen=True, slots=True)
class Score:
    """Intersection over union of one method with one kind of prompt.

    `iou` is the mean over images of the mean over their objects, `error` its standard error over
    images (None for one image); `iou_objects` the mean over all objects; `by_kind` is kind ->
    (iou, error, images). `resolution` is None for methods that have none.
    """

    method: str
    prompt: str
    resolution: int | None
    images: int
    objects: int
    iou: float
    error: float | None
    iou_objects: float
    by_kind: dict[str, tuple[float, float | None, int]]


def evaluate_model(  # noqa: PLR0913 - one keyword for each option of the command
    name_or_path: str | Path,
    *,
    data: str | Path | None = None,
    split: str | None = "test",
    resolutions: Sequence[int] | None = None,
    prompts: Sequence[PromptKind] = ("box", "point"),
    max_instances: int | None = None,
    seed: int = 0,
    split_seed: int | None = None,
    max_images: int | None = None,
    allow_empty: bool = False,
    adapters: Sequence[str | Path] = (),
) -> list[Score]:
    """Score a shipped model or a checkpoint with tight boxes and center-most points.

    A folder of `hwnas finetune` is one, too: by itself, or among the `adapters` of its base, whose
    changes of the weights add up. Without `data` on the embedded picture. All objects count unless
    `max_instances` limits them (drawn with `seed`). `resolutions` defaults to the model's largest,
    or to what it was fine-tuned at. `split_seed`, `max_images` and `allow_empty` as in `open_data`;
    images without objects do not count.
    """
    if not adapters and Path(name_or_path).is_file() and is_supernet_file(name_or_path):
        raise ConfigError(
            f"{name_or_path} is a supernet; say which of its subnets: --archs largest, random:N, a "
            "run folder or a file"
        )
    model = _opened(name_or_path, adapters)
    images = _with_objects(
        open_data(
            data, split=split, split_seed=split_seed, max_images=max_images, seed=seed,
            allow_empty=allow_empty,
        ).images
    )  # fmt: skip
    scores = []
    for resolution in resolutions or (model.resolution,):
        for prompt in prompts:
            found = evaluate_images(
                model.sam,
                images,
                resolution=resolution,
                prompt=prompt,
                embed=model.embed,
                max_instances=max_instances,
                seed=seed,
            )
            scores.append(_score(model.name, prompt, resolution, images, found))
    return scores


@dataclass(frozen=True, slots=True)
class _Opened:
    """A model to score; `embed` None stands for its own encoder."""

    name: str
    sam: Any
    embed: Embed | None
    resolution: int


def _opened(name_or_path: str | Path, adapters: Sequence[str | Path]) -> _Opened:
    base: str | Path | None = name_or_path
    if not adapters and is_finetuned(name_or_path):
        adapters, base = (name_or_path,), None
    if not adapters:
        sam = load_sam(name_or_path)
        return _Opened(sam.geometry.name, sam, fused_embedding(sam), sam.geometry.image_size)
    tuned = open_together(adapters, base=base)
    name = f"{tuned.sam.geometry.name} + {tuned.facts['method']}"
    return _Opened(name, tuned.sam, tuned.embed, tuned.resolution)


def evaluate_baselines(
    *,
    data: str | Path | None = None,
    split: str | None = "test",
    split_seed: int | None = None,
    max_images: int | None = None,
    seed: int = 0,
    allow_empty: bool = False,
) -> list[Score]:
    """Score the methods without learning, with tight boxes, on the same images and objects."""
    images = _with_objects(
        open_data(
            data, split=split, split_seed=split_seed, max_images=max_images, seed=seed,
            allow_empty=allow_empty,
        ).images
    )  # fmt: skip
    return [
        _score(name, "box", None, images, [_baseline(image, masks) for image in images])
        for name, masks in BASELINES.items()
    ]


def _baseline(
    labeled: LabeledImage,
    masks: Callable[[LabeledImage, Prompts], NDArray[np.bool_]],
) -> NDArray[np.float64]:
    prompts = prompts_of(labeled.instances)
    scores = []
    for start in range(0, len(prompts.ids), 32):
        rows = slice(start, start + 32)
        part = Prompts(prompts.ids[rows], prompts.boxes[rows], prompts.points[rows])
        truths = labeled.instances == part.ids[:, None, None]
        scores.append(iou_of_masks(masks(labeled, part), truths))
    return np.concatenate(scores)


def _with_objects(images: Sequence[LabeledImage]) -> list[LabeledImage]:
    found = [image for image in images if image.instances.any()]
    if not found:
        raise DataError("no image has an object to prompt; mark objects in the masks of this split")
    return found


def _score(
    method: str,
    prompt: str,
    resolution: int | None,
    images: Sequence[LabeledImage],
    found: Sequence[NDArray[np.float64]],
) -> Score:
    means = [float(s.mean()) for s in found]
    kinds = sorted({image.kind for image in images} - {""})
    by_kind = {}
    for kind in kinds:
        own = [m for m, image in zip(means, images, strict=True) if image.kind == kind]
        by_kind[kind] = (*mean_with_error(own), len(own))
    flat = np.concatenate(found)
    mean, error = mean_with_error(means)
    return Score(
        method, prompt, resolution, len(images), len(flat), mean, error, float(flat.mean()), by_kind
    )
