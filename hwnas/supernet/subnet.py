"""A subnet as a module of its own, with copied slices of the supernet's tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import nn

from hwnas.supernet.encoder_view import EncoderView
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["Subnet"]


class Subnet(nn.Module):
    """Images (B, 3, R, R) to embeddings (B, 256, g, g) of one plan, independent of the supernet.

    Weights are integer codes with scales, or floating-point slices, as the plan and the machine
    ask for, held as buffers named after their place, such as `blocks/0/qkv/weight`.
    """

    def __init__(self, view: EncoderView, plan: EncoderPlan) -> None:
        super().__init__()
        self.plan = plan
        self._skeleton = _map_tensors(view, self._take)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed normalized images of the plan's resolution."""
        with torch.no_grad():
            return self.view()(images)

    def view(self) -> EncoderView:
        """What it runs, block by block, with the buffers as they are now."""
        bound = _map_tensors(self._skeleton, lambda name, _: self.get_buffer(name))
        return cast(EncoderView, bound)

    def _take(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        self.register_buffer(name, tensor.detach().clone())
        return torch.empty(0)


def _map_tensors(
    value: Any, function: Callable[[str, torch.Tensor], torch.Tensor], name: str = ""
) -> Any:
    """Copy nested frozen dataclasses and tuples with every tensor replaced."""
    prefix = f"{name}/" if name else ""
    if isinstance(value, torch.Tensor):
        return function(name, value)
    if isinstance(value, tuple):
        return tuple(_map_tensors(item, function, f"{prefix}{i}") for i, item in enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: _map_tensors(getattr(value, field.name), function, prefix + field.name)
            for field in fields(value)
        }
        return replace(value, **changed)
    return value
