"""Image encoders that can be cut at a layer: what comes before it, and what becomes of it.

A map of where a network looks needs the activations of one layer and the way from there to the
masks. Both halves are ordinary calls: no hook is left on a model, and the half before the cut keeps
nothing for a backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from hwnas.errors import ConfigError
from hwnas.supernet.sam_model import position_table
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.side.student import SideStudent
from hwnas.supernet.training.finetuning.attached_student import AttachedStudent
from hwnas.supernet.training.finetuning.subnet_student import SubnetStudent

__all__ = ["EMBEDDING", "CutEncoder", "EmbeddingAlone", "PlanCut", "StockCut", "cut_encoder"]

EMBEDDING = "embedding"
"""The layer that every encoder has: what the mask decoder reads."""


class CutEncoder(Protocol):
    """An encoder with the prompt encoder and the mask decoder of `sam`.

    `layers` are the names at which it can be cut, `embedding` last; `modules` is whatever runs.
    """

    sam: Any
    layers: tuple[str, ...]
    modules: tuple[nn.Module, ...]

    def before(self, images: torch.Tensor, layer: str) -> torch.Tensor:
        """Normalized images (B, 3, R, R) to the output (B, C, h, w) of a layer; no gradients."""
        ...

    def after(self, x: torch.Tensor, layer: str) -> torch.Tensor:
        """The output (B, C, h, w) of a layer to the embedding (B, 256, g, g), with gradients."""
        ...


class StockCut:
    """The encoder of a plain `segment_anything` model, with or without adapters attached to it."""

    def __init__(self, sam: Any) -> None:
        self.sam = sam
        self.modules: tuple[nn.Module, ...] = (sam,)
        self.layers = (*(f"blocks.{i}" for i in range(len(sam.image_encoder.blocks))), EMBEDDING)

    @torch.no_grad()
    def before(self, images: torch.Tensor, layer: str) -> torch.Tensor:
        """As `CutEncoder.before`."""
        place, encoder = _place(self.layers, layer), self.sam.image_encoder
        x = encoder.patch_embed(images)  # (B, g, g, C)
        x = x + position_table(encoder.pos_embed, x.shape[1])
        for block in encoder.blocks[: place + 1]:
            x = block(x)
        x = x.permute(0, 3, 1, 2)
        found: torch.Tensor = encoder.neck(x) if layer == EMBEDDING else x
        return found

    def after(self, x: torch.Tensor, layer: str) -> torch.Tensor:
        """As `CutEncoder.after`."""
        if layer == EMBEDDING:
            return x
        encoder = self.sam.image_encoder
        x = x.permute(0, 2, 3, 1)
        for block in encoder.blocks[_place(self.layers, layer) + 1 :]:
            x = block(x)
        embedding: torch.Tensor = encoder.neck(x.permute(0, 3, 1, 2))
        return embedding


class PlanCut:
    """One subnet of a supernet: its kept blocks by their index in the supernet.

    Before the cut the subnet runs as it is deployed, as products of integers. Behind it the layers
    are those of training: fake-quantized, with straight-through gradients.
    """

    def __init__(self, supernet: SamSupernet, arch: Any) -> None:
        self.sam = supernet.sam
        self.modules: tuple[nn.Module, ...] = (supernet,)
        self._encoder, self._plan = supernet.encoder, supernet.plan(arch)
        self.layers = (*(f"blocks.{block.index}" for block in self._plan.blocks), EMBEDDING)

    @torch.no_grad()
    def before(self, images: torch.Tensor, layer: str) -> torch.Tensor:
        """As `CutEncoder.before`."""
        place = _place(self.layers, layer)
        if layer == EMBEDDING:
            embedding: torch.Tensor = self._encoder(images, self._plan)
            return embedding
        with torch.inference_mode():
            view = self._encoder.view(self._plan)
            x = view.tokens(images)
            for at in range(place + 1):
                x = view.block(at, x)
        return x.permute(0, 3, 1, 2)

    def after(self, x: torch.Tensor, layer: str) -> torch.Tensor:
        """As `CutEncoder.after`."""
        if layer == EMBEDDING:
            return x
        with torch.enable_grad():
            view = self._encoder.view(self._plan)
            x = x.permute(0, 2, 3, 1)
            for at in range(_place(self.layers, layer) + 1, len(view.blocks)):
                x = view.block(at, x)
            return view.neck(x)


class EmbeddingAlone:
    """Any map from images to embeddings; it has no layer but its result.

    Side networks are of this kind, as no gradient passes through the encoder beside them.
    """

    def __init__(
        self, sam: Any, embed: Callable[[torch.Tensor], torch.Tensor], *modules: nn.Module
    ) -> None:
        self.sam, self._embed = sam, embed
        self.modules: tuple[nn.Module, ...] = (sam, *modules)
        self.layers: tuple[str, ...] = (EMBEDDING,)

    @torch.no_grad()
    def before(self, images: torch.Tensor, layer: str) -> torch.Tensor:
        """As `CutEncoder.before`."""
        _place(self.layers, layer)
        return self._embed(images)

    def after(self, x: torch.Tensor, layer: str) -> torch.Tensor:
        """The embedding itself."""
        _place(self.layers, layer)
        return x


def cut_encoder(model: Any, arch: Any = None) -> CutEncoder:
    """The encoder of a model, ready to be cut.

    Args:
        model: A `segment_anything` model; what `hwnas finetune` trains (`Finetuned.student`); or a
            supernet, or anything else with `sam` and `embed(images, arch)`.
        arch: Which subnet, for a supernet alone.

    Raises:
        ConfigError: a supernet without an arch, or an arch of what is none.
    """
    if isinstance(model, SubnetStudent) and arch is None:
        return PlanCut(model.supernet, model.plan)
    if isinstance(model, AttachedStudent) and arch is None:
        return StockCut(model.sam)
    if isinstance(model, SideStudent) and arch is None:
        return EmbeddingAlone(model.sam, model.embed, model)
    if isinstance(model, SamSupernet) and arch is not None:
        return PlanCut(model, arch)
    if hasattr(model, "image_encoder") and arch is None:
        return StockCut(model)
    if hasattr(model, "sam") and callable(getattr(model, "embed", None)) and arch is not None:
        own = (model,) if isinstance(model, nn.Module) else ()
        return EmbeddingAlone(model.sam, lambda images: model.embed(images, arch), *own)
    raise ConfigError(
        f"{type(model).__name__} with {'no arch' if arch is None else 'an arch'}; expected a "
        "segment_anything model or a fine-tuned one without an arch, or a supernet with one"
    )


def _place(layers: tuple[str, ...], layer: str) -> int:
    if layer not in layers:
        raise ConfigError(f"layer {layer!r}: this encoder has {', '.join(layers)}; name one")
    return layers.index(layer)
