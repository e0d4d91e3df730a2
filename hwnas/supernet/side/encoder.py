"""A frozen encoder and the side network beside it, as one map from images to embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import torch
from torch.nn import functional

from hwnas.supernet.side.features import Backbone, Features
from hwnas.supernet.side.network import SideNetwork

__all__ = ["ReadFeatures", "SideEncoder"]

ReadFeatures = Callable[[torch.Tensor], Features]
"""From normalized images (B, 3, R, R) to the features that a side network takes."""


class SideEncoder:
    """Images (B, 3, R, R) to embeddings (B, 256, g, g), for the decoder of the frozen model.

    `read` gives the features, straight from the backbone by default (`FeatureCache` is another
    way). This is no module: the side network alone has parameters, and the caller holds the model.
    """

    def __init__(
        self, backbone: Backbone, side: SideNetwork, read: ReadFeatures | None = None
    ) -> None:
        self.backbone, self.side = backbone, side
        self.read = self._directly if read is None else read

    def __call__(self, images: torch.Tensor, *, frames: int = 1) -> torch.Tensor:
        """Embed images, or with `frames` F the B images of B / F clips."""
        return self.finish(self.read(images), frames=frames)

    def finish(self, features: Features, *, frames: int = 1) -> torch.Tensor:
        """The embedding that features of the encoder become."""
        last = features.last.detach()
        histogram = self.backbone.histogram.to(last.device)
        added: torch.Tensor = self.side(features, histogram, frames=frames)
        if self.side.config.inject == "before":
            return self.backbone.neck(last + added)
        moved = added.permute(0, 3, 1, 2)
        if moved.shape[-2:] != last.shape[-2:]:  # a subnet that halves its token map
            size = last.shape[-2:]
            moved = functional.interpolate(moved, size, mode="bilinear", align_corners=False)
        return last + moved

    def merge(self) -> NoReturn:
        """Never; raises NotFoldable, as `SideNetwork.fold` says."""
        self.side.fold()
        raise AssertionError("fold raises")

    def _directly(self, images: torch.Tensor) -> Features:
        return self.backbone.read(images, self.side.blocks, embed=self.side.embeds)
