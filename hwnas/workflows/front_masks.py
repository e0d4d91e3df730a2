"""What some designs of a front make of some images, for the report of a search."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from hwnas.cost import declared_needs
from hwnas.cost.embedding import require_embedding
from hwnas.errors import HwnasError
from hwnas.records import Evaluation
from hwnas.report.masks import MaskPictures
from hwnas.workflows.context import search_pairs
from hwnas.workflows.mask_options import MaskOptions
from hwnas.workflows.resolve import Resolved

__all__ = ["front_masks", "sees_masks"]

_DESIGNS, _IMAGES = 3, 2  # seconds of a report, not minutes


def sees_masks(live: Resolved) -> bool:
    """Whether a cost model of the search looks at images through the supernet."""
    models = [column.model for column in live.problem.columns]
    models += [live.rescore] if live.rescore is not None else []
    needed = {"supernet", "data"}
    return live.context.supernet is not None and any(
        needed <= set(declared_needs(model)) for model in models
    )


def front_masks(
    live: Resolved, designs: Mapping[str, Evaluation], options: MaskOptions
) -> MaskPictures | None:
    """Masks of the first three of `designs`, by label, on images that the search saw.

    None for a search without images; where the pictures cannot be made, a sentence says why.

    Raises:
        HwnasError: the images that `options` name cannot be used.
    """
    if options.images == 0 or not designs or not sees_masks(live):
        return None
    try:
        return _drawn(live, designs, options)
    except Exception as error:  # a stranger's supernet may raise anything; the report goes on
        if options.data is not None and isinstance(error, HwnasError):
            raise
        return MaskPictures(words=f"Left out: {error}")


def _drawn(live: Resolved, designs: Mapping[str, Evaluation], options: MaskOptions) -> MaskPictures:
    from hwnas.supernet.cut_encoder import cut_encoder
    from hwnas.workflows.masks import Pictured, mask_pictures

    supernet = require_embedding(live.context, by="a picture of masks")
    archs = {
        label: live.space.arch(design.genes) for label, design in islice(designs.items(), _DESIGNS)
    }
    models = (
        Pictured(label, cut_encoder(supernet, arch), supernet.resolution(arch))
        for label, arch in archs.items()
    )
    return mask_pictures(models, _images(live, options), options)


def _images(live: Resolved, options: MaskOptions) -> list[Any]:
    from hwnas.data.embedded import embedded_image
    from hwnas.workflows.masks import some_images

    folder = options.data or live.config.data
    if folder is None:
        return [embedded_image()]
    return some_images(search_pairs(folder), options.images or _IMAGES)
