"""What flows into each layer of an encoder, shown to a callback during a forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from hwnas.supernet.encoder_layers import Apply
from hwnas.supernet.encoder_view import BlockView, EncoderView
from hwnas.supernet.encoder_weights import NECK_CONV, NECK_LINEAR, PATCH

__all__ = ["Observe", "observed"]

Observe = Callable[[str, torch.Tensor], None]
"""Called with a layer's name and its input, in pieces where the layer runs in pieces."""


@dataclass(frozen=True)
class _Observed:
    name: str
    apply: Apply
    observe: Observe

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.observe(self.name, x)
        return self.apply(x)


def observed(view: EncoderView, observe: Observe) -> EncoderView:
    """The same subnet, which shows the input of every linear layer, attention and convolution.

    Attention is called `blocks.I.attn` and is shown the output of qkv.
    """
    return replace(
        view,
        patch_embed=_Observed(PATCH, view.patch_embed, observe),
        blocks=tuple(_block(block, observe) for block in view.blocks),
        neck_linear=_Observed(NECK_LINEAR, view.neck_linear, observe),
        neck_conv=_Observed(NECK_CONV, view.neck_conv, observe),
    )


def _block(view: BlockView, observe: Observe) -> BlockView:
    name = f"blocks.{view.index}"
    return replace(
        view,
        qkv=_Observed(f"{name}.qkv", view.qkv, observe),
        attention=_Observed(f"{name}.attn", view.attention, observe),
        proj=_Observed(f"{name}.proj", view.proj, observe),
        lin1=_Observed(f"{name}.lin1", view.lin1, observe),
        lin2=_Observed(f"{name}.lin2", view.lin2, observe),
    )
