"""One pass of the teacher over images, shared by all blocks: features at the ends of its slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from hwnas.blocks.distilling import Material
from hwnas.blocks.noise import ChannelScale
from hwnas.data.labeled import LabeledImage
from hwnas.data.transforms import fit_size, preprocess
from hwnas.errors import DataError
from hwnas.supernet.probing.probe import BatchSize
from hwnas.supernet.probing.sam_batches import class_batch, draw_pictures, prompt_batch
from hwnas.supernet.probing.sam_probes import SamProbes
from hwnas.supernet.semantic import classes_of
from hwnas.workload.sam_geometry import SamGeometry
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["TeacherPass", "check_images", "slot_ends", "teacher_pass", "valid_cells"]

_BATCH = 8
_MOST_BYTES = 4 << 30


@dataclass(frozen=True, eq=False)
class TeacherPass:
    """Features of n images at B + 1 boundaries, (n, g, g, C) each, and where the pictures are.

    `gradients` are those of the task loss at the ends of the slots, one (n, g, g, C) for each of
    the B slots; None where they were not asked for.
    """

    names: tuple[str, ...]
    features: tuple[torch.Tensor, ...]
    valid: torch.Tensor
    gradients: tuple[torch.Tensor, ...] | None = None

    @cached_property
    def scales(self) -> tuple[ChannelScale, ...]:
        """How errors at the end of each slot are weighed."""
        return tuple(
            ChannelScale.of(outputs, self.valid, name=f"slot {slot}")
            for slot, outputs in enumerate(self.features[1:])
        )

    def material(self, slot: int, scale: ChannelScale) -> Material:
        """What a block of a slot is trained or measured on, errors weighed by `scale`."""
        return Material(self.features[slot], self.features[slot + 1], self.valid, scale)


def teacher_pass(
    supernet: Any, images: Sequence[LabeledImage], resolution: int, *, gradients: bool, seed: int
) -> TeacherPass:
    """Run the largest network in full precision over images at one resolution.

    With `gradients`, also backward from the supernet's own loss, image by image; the objects that
    are prompted are drawn with `seed`.

    Raises:
        DataError: there are no images, all show one color, or their features do not fit into
            4 GiB.
    """
    check_images(images, supernet.geometry, resolution)
    features = _features(supernet, images, resolution)
    grid = supernet.geometry.grid(resolution)
    valid = torch.stack([valid_cells(image, grid) for image in images])
    found = _gradients(supernet, images, resolution, seed) if gradients else None
    return TeacherPass(tuple(image.name for image in images), features, valid, found)


def slot_ends(geometry: SamGeometry) -> tuple[int, ...]:
    """The last block of each slot."""
    return tuple(geometry.stage_blocks(stage)[-1] for stage in range(geometry.stages))


def valid_cells(image: LabeledImage, grid: int) -> torch.Tensor:
    """Which cells (g, g) of a token map hold the picture; the rest is padding."""
    rows, columns = image.image.shape[:2]
    height, width = fit_size(rows, columns, grid)
    valid = torch.zeros(grid, grid, dtype=torch.bool)
    valid[:height, :width] = True
    return valid


@torch.no_grad()
def _features(
    supernet: Any, images: Sequence[LabeledImage], resolution: int
) -> tuple[torch.Tensor, ...]:
    view = supernet.encoder.view(EncoderPlan.uniform(supernet.geometry, resolution=resolution))
    ends = slot_ends(supernet.geometry)
    found: list[list[torch.Tensor]] = [[] for _ in range(len(ends) + 1)]
    for start in range(0, len(images), _BATCH):
        inputs = [preprocess(i.image, resolution) for i in images[start : start + _BATCH]]
        x = view.tokens(torch.stack(inputs))
        found[0].append(x)
        for place in range(len(view.blocks)):
            x = view.block(place, x)
            if place in ends:
                found[ends.index(place) + 1].append(x)
    return tuple(torch.cat(parts) for parts in found)


def _gradients(
    supernet: Any, images: Sequence[LabeledImage], resolution: int, seed: int
) -> tuple[torch.Tensor, ...]:
    """Gradients of the loss at the last layer of each slot, which are those of its output."""
    plan: Any = EncoderPlan.uniform(supernet.geometry, resolution=resolution)
    probe = SamProbes(supernet).probe(plan, weights="inherited", seed=0)
    prompted = classes_of(supernet.sam) is None
    make: Callable[..., Any] = prompt_batch if prompted else class_batch
    outputs: dict[int, torch.Tensor] = {}

    def keep(slot: int, y: torch.Tensor) -> None:
        y.retain_grad()
        outputs[slot] = y

    blocks: Any = probe.module.blocks
    hooks = [
        blocks[end].lin2.register_forward_hook(lambda _, __, y, slot=slot: keep(slot, y))
        for slot, end in enumerate(slot_ends(supernet.geometry))
    ]
    found: list[list[torch.Tensor]] = [[] for _ in hooks]
    side = supernet.geometry.image_size
    try:
        for image in images:
            picture = draw_pictures([image], BatchSize(1, 1, seed), side, objects=prompted)
            loss: Any = probe.loss(make(picture, resolution))
            loss.backward()
            probe.module.zero_grad(set_to_none=True)
            for slot, parts in enumerate(found):
                gradient = outputs[slot].grad
                if gradient is None:
                    raise DataError(f"{image.name}: no gradient reaches the end of slot {slot}")
                parts.append(gradient.detach())
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(torch.cat(parts) for parts in found)


def check_images(images: Sequence[LabeledImage], geometry: SamGeometry, resolution: int) -> None:
    """Raise DataError for images that a teacher cannot be run on; see `teacher_pass`."""
    if not images:
        raise DataError("no images for the teacher; expected one or more")
    plain = [image.name for image in images if image.image.min() == image.image.max()]
    if len(plain) == len(images):
        raise DataError(
            f"all {len(images)} images show one color each ({', '.join(plain[:3])}, …), so that a "
            "block learns nothing from them; give pictures of what the network is for"
        )
    cells = geometry.grid(resolution) ** 2 * geometry.dim
    size = 4 * (2 * geometry.stages + 1) * len(images) * cells
    if size > _MOST_BYTES:
        raise DataError(
            f"features of {len(images)} images at {resolution} px take {size / 2**30:.1f} GiB of "
            f"memory, at most {_MOST_BYTES >> 30} are used; take fewer images (--images)"
        )
