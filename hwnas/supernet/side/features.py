"""The outputs of chosen blocks of a frozen encoder: of a stock SAM, or of a subnet.

Nothing here is in an autograd graph but the neck, and that only where something before it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional

from hwnas.errors import ArchError, ConfigError
from hwnas.supernet.encoder_view import EncoderView
from hwnas.supernet.sam_model import position_table
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.side.config import EMBEDDING
from hwnas.supernet.side.layers import bit_histogram
from hwnas.supernet.subnet import Subnet
from hwnas.supernet.supernet_file import hash_weights
from hwnas.workload.sam_geometry import SamGeometry
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["Backbone", "ExtractedBackbone", "Features", "SamBackbone", "SubnetBackbone"]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What a frozen encoder makes of B images: maps `taps`, each (B, g, g, c), and `last`.

    `last` is what a side network adds to: the last block's tokens (B, g, g, c), which may be the
    same tensor as the last tap, or the embedding (B, 256, G, G) after the neck.
    """

    taps: tuple[torch.Tensor, ...]
    last: torch.Tensor


class Backbone(Protocol):
    """A frozen encoder whose blocks can be read.

    `histogram` (HISTOGRAM,) says of which bits it is, `key` names weights and plan.
    """

    geometry: SamGeometry
    histogram: torch.Tensor

    @property
    def key(self) -> str: ...

    def read(self, images: torch.Tensor, blocks: Sequence[int], *, embed: bool) -> Features:
        """Features of normalized images (B, 3, R, R), after the neck with `embed`."""
        ...

    def neck(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (B, g, g, c) to an embedding (B, 256, G, G), with gradients for the tokens."""
        ...


class SamBackbone:
    """The image encoder of a stock `segment_anything` model, which is frozen by this."""

    def __init__(self, sam: Any) -> None:
        self.geometry: SamGeometry = sam.geometry
        self._encoder = sam.image_encoder.requires_grad_(False)
        self.histogram = bit_histogram(None).to(sam.image_encoder.pos_embed.device)

    @property
    def key(self) -> str:
        return hash_weights(self._encoder.state_dict())

    @torch.no_grad()
    def read(self, images: torch.Tensor, blocks: Sequence[int], *, embed: bool) -> Features:
        encoder, kept = self._encoder, _Kept(blocks)
        x = encoder.patch_embed(images)
        x = x + position_table(encoder.pos_embed, x.shape[1])
        kept.put(EMBEDDING, x)
        for index, block in enumerate(encoder.blocks):
            x = block(x)
            kept.put(index, x)
        return kept.features(x, self.neck(x) if embed else x)

    def neck(self, tokens: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self._encoder.neck(tokens.permute(0, 3, 1, 2))
        return embedding


class SubnetBackbone:
    """A subnet of a supernet, quantized as its plan says and frozen by this.

    A block that the subnet drops hands its input on, so its tap is the output of the last block
    before it that is there. Where the subnet halves the token map, the taps before that place are
    halved as well. Blocks run as in inference, in integers where the machine has them; the neck
    does too unless gradients must pass it: then it is the fake-quantized one of training.
    """

    def __init__(self, supernet: SamSupernet, arch: Any) -> None:
        """Borrow the weights of a subnet: an `Arch`, a mapping of genes, or a plan."""
        self._encoder, self.plan = supernet.encoder.requires_grad_(False), supernet.plan(arch)
        self.geometry = supernet.geometry
        device = supernet.encoder.encoder.pos_embed.device
        self.histogram = bit_histogram(self.plan).to(device)

    @property
    def key(self) -> str:
        options = json.dumps(self._encoder.scales.options, sort_keys=True)
        return f"{hash_weights(self._encoder.state_dict())} {options} {self.plan}"

    @torch.no_grad()
    def read(self, images: torch.Tensor, blocks: Sequence[int], *, embed: bool) -> Features:
        return _read(self._encoder.view(self.plan), self.plan, images, blocks, embed=embed)

    def neck(self, tokens: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and self._encoder.scales.activation == "batch":
            raise ConfigError(
                "a side network before the neck of a supernet with activation: batch would change "
                "the running ranges of the neck; take inject after"
            )
        view: EncoderView = self._encoder.view(self.plan)
        return view.neck(tokens)


class ExtractedBackbone:
    """A subnet extracted from its supernet, with weights of its own.

    Its neck may be a product of integers, which no gradient passes: train `after` the neck, or
    beside the supernet (`SubnetBackbone`) and run it here.
    """

    def __init__(self, subnet: Subnet) -> None:
        self._subnet, self.plan = subnet, subnet.plan
        self.geometry, self.histogram = subnet.plan.geometry, bit_histogram(subnet.plan)

    @property
    def key(self) -> str:
        return f"{hash_weights(self._subnet.state_dict())} {self.plan}"

    @torch.no_grad()
    def read(self, images: torch.Tensor, blocks: Sequence[int], *, embed: bool) -> Features:
        return _read(self._subnet.view(), self.plan, images, blocks, embed=embed)

    def neck(self, tokens: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled() and tokens.requires_grad:
            raise ConfigError(
                "no gradient passes the neck of an extracted subnet; take inject after, or train "
                "beside the supernet that it came from"
            )
        return self._subnet.view().neck(tokens)


def _read(
    view: EncoderView, plan: EncoderPlan, images: torch.Tensor, blocks: Sequence[int], *,
    embed: bool,
) -> Features:  # fmt: skip
    _check_side(images, plan)
    kept = _Kept(blocks)
    x = view.tokens(images)
    kept.put(EMBEDDING, x)
    for place, block in enumerate(view.blocks):
        x = view.block(place, x)
        kept.put(block.index, x)
    return kept.features(x, view.neck(x) if embed else x)


class _Kept:
    """The maps of the wanted blocks, as the encoder comes by them."""

    def __init__(self, blocks: Sequence[int]) -> None:
        self._blocks = tuple(blocks)
        self._found: dict[int, torch.Tensor] = {}

    def put(self, index: int, x: torch.Tensor) -> None:
        """Take the output of a block; others between it and the one before were dropped."""
        self._found |= {b: x for b in self._blocks if b >= index}

    def features(self, x: torch.Tensor, last: torch.Tensor) -> Features:
        """All of them on the grid of the last map x."""
        return Features(tuple(_halved(self._found[b], x.shape[1]) for b in self._blocks), last)


def _halved(x: torch.Tensor, grid: int) -> torch.Tensor:
    if x.shape[1] == grid:
        return x
    return functional.avg_pool2d(x.permute(0, 3, 1, 2), x.shape[1] // grid).permute(0, 2, 3, 1)


def _check_side(images: torch.Tensor, plan: EncoderPlan) -> None:
    if images.shape[-2:] != (plan.resolution, plan.resolution):
        raise ArchError(
            f"images are {images.shape[-1]}x{images.shape[-2]}, the subnet takes "
            f"{plan.resolution}x{plan.resolution}; resize and pad them to that"
        )
