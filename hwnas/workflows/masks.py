"""Pictures of what models make of some annotated images, beside one another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hwnas.data.folder import Pair, read_pair
from hwnas.data.labeled import LabeledImage
from hwnas.data.prompts import Prompts, prompts_of
from hwnas.data.scores import iou_of_masks
from hwnas.errors import DataError
from hwnas.report.mask_panels import FOUND, TRUTH, with_heat, with_masks, with_prompts
from hwnas.report.masks import MaskPanel, MaskPictures, MaskRow
from hwnas.supernet.cut_encoder import CutEncoder
from hwnas.supernet.heat_map import heat_map
from hwnas.workflows.mask_options import MaskOptions

__all__ = ["Pictured", "mask_pictures", "some_images"]


@dataclass(frozen=True, slots=True, eq=False)
class Pictured:
    """A model to show under a title, at the side of input that it takes."""

    title: str
    encoder: CutEncoder
    resolution: int


def mask_pictures(
    models: Iterable[Pictured], images: Sequence[LabeledImage], options: MaskOptions
) -> MaskPictures:
    """Each image with its prompts, its annotation, and masks and heat map of every model.

    A caption gives the mean IoU over the objects that are prompted. Models may be made on demand:
    one at a time is used.

    Raises:
        ConfigError: the layer is not one of a model's, or a model takes no prompts.
        DataError: none of the images has an object.
    """
    scenes = [_Scene.of(image, options) for image in images if image.instances.any()]
    if not scenes:
        raise DataError("no image has an object to prompt; mark objects in the masks of this split")
    for model in models:
        for scene in scenes:
            scene.add(model, options)
    shown = [f"{len(scene.prompts.ids)} of {scene.objects}" for scene in scenes]
    words = (
        f"One {options.prompt} prompt for each of some objects ({', '.join(dict.fromkeys(shown))} "
        "of an image), and what each model makes of them; IoU is the mean over these objects. A "
        f"heat map ({options.heat}, at {options.layer}) is light where the layer raises the logits "
        "of the predicted masks; each is scaled to its own largest value."
    )
    return MaskPictures(words=words, rows=tuple(scene.row() for scene in scenes))


def some_images(pairs: Sequence[Pair], count: int) -> list[LabeledImage]:
    """At most `count` images that have objects, evenly spread over `pairs`.

    Raises:
        DataError: a file cannot be read, or no image has an object.
    """
    found: list[LabeledImage] = []
    step = max(1, len(pairs) // count)
    spread = [pair for first in range(step) for pair in pairs[first::step]]
    for pair in spread:
        image = read_pair(pair)
        if image.instances.any():
            found.append(image)
        if len(found) == count:
            return found
    if not found:
        raise DataError(f"none of {len(pairs)} images has an object to prompt; mark some objects")
    return found


@dataclass(slots=True, eq=False)
class _Scene:
    """One image and its prompts, with the panels so far."""

    image: LabeledImage
    prompts: Prompts
    objects: int
    truths: NDArray[np.bool_]
    panels: list[MaskPanel]
    heats: list[MaskPanel] = field(default_factory=list)

    @classmethod
    def of(cls, image: LabeledImage, options: MaskOptions) -> _Scene:
        every = prompts_of(image.instances)
        rows = _spread(len(every.ids), options.objects)
        prompts = Prompts(every.ids[rows], every.boxes[rows], every.points[rows])
        truths = image.instances == prompts.ids[:, None, None]
        drawn = {"boxes": prompts.boxes} if options.prompt == "box" else {"points": prompts.points}
        panels = [
            MaskPanel(title="image and prompts", pixels=with_prompts(image.image, **drawn)),
            MaskPanel(title="annotation", pixels=with_masks(image.image, truths, TRUTH)),
        ]
        return cls(image, prompts, len(every.ids), truths, panels)

    def add(self, model: Pictured, options: MaskOptions) -> None:
        found = heat_map(
            model.encoder, self.image.image, self.prompts, resolution=model.resolution,
            prompt=options.prompt, layer=options.layer, method=options.heat,
        )  # fmt: skip
        ignored = self.image.ignored
        counted = True if ignored is None else ~ignored
        iou = float(iou_of_masks(found.masks & counted, self.truths & counted).mean())
        pixels = with_masks(self.image.image, found.masks, FOUND)
        self.panels.append(MaskPanel(title=model.title, pixels=pixels, caption=f"IoU {iou:.3f}"))
        self.heats.append(
            MaskPanel(
                title=f"{model.title}, heat map",
                pixels=with_heat(self.image.image, found.values),
                caption="" if found.values.any() else "nowhere above zero",
            )
        )

    def row(self) -> MaskRow:
        gaps = (None,) * (len(self.panels) - len(self.heats))
        return MaskRow(name=self.image.name, lines=(tuple(self.panels), (*gaps, *self.heats)))


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """At most `most` of `count` indexes, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))
