"""A network of inverted bottlenecks as a module, by its plan.

Convolutions have no bias, each is followed by a batch norm and, but for the last of a bottleneck,
by a ReLU. Layers are named as in the workload, so that costs and gradients meet.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from hwnas.supernet.probing import ProbedLayer, draw_weights, weight_layers
from hwnas.workload.cnn_plan import BottleneckPlan, CnnPlan

__all__ = ["BottleneckNet"]

_ENDING = "ending."
_LAYOUT = torch.channels_last  # halves the time of depthwise convolutions on a CPU


class BottleneckNet(nn.Module):
    """Images (B, 3, R, R) to logits: (B, outputs), or (B, outputs, R, R) for one of each pixel.

    Its weights are drawn by `seed` (Kaiming), without the global generator.
    """

    def __init__(self, plan: CnnPlan, seed: int) -> None:
        super().__init__()
        geometry = plan.geometry
        pixels = geometry.ending == "pixels"
        with torch.device("meta"):  # the layers' own first draws would be of the global generator
            self.stem = _conv(3, geometry.stem, 3, stride=2)
            self.stem_norm = nn.BatchNorm2d(geometry.stem)
            self.act = nn.ReLU()
            self.stages = nn.ModuleList(
                nn.ModuleList(_Bottleneck(block) for block in stage) for stage in plan.stages
            )
            self.ending = _PixelEnding(plan) if pixels else _ImageEnding(plan)
        self.to_empty(device="cpu")
        draw_weights(self, seed)
        self.to(memory_format=_LAYOUT)  # type: ignore[call-overload]

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """The map (B, C, s, s) of each stage."""
        x = self.stem(images.contiguous(memory_format=_LAYOUT))
        x, found = self.act(self.stem_norm(x)), []
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                x = block(x)
            found.append(x)
        return found

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """The last map before pooling, or the logits of pixels."""
        found: torch.Tensor = self.ending.map_of(self.maps(images))
        return found

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.ending(self.maps(images))
        return found

    def layers(self) -> tuple[ProbedLayer, ...]:
        """Convolutions and linear layers, by the workload's names."""
        return tuple(
            replace(layer, name=layer.name.removeprefix(_ENDING)) for layer in weight_layers(self)
        )

    def remove_residuals(self) -> None:
        """Take the residual links out."""
        for part in self.modules():
            if isinstance(part, _Bottleneck):
                part.residual = False


class _Bottleneck(nn.Module):
    """(B, c_in, s, s) to (B, c_out, s / stride, s / stride)."""

    def __init__(self, plan: BottleneckPlan) -> None:
        super().__init__()
        wide = plan.wide
        self.expand, self.expand_norm = _conv(plan.c_in, wide, 1), nn.BatchNorm2d(wide)
        self.dw = _conv(wide, wide, plan.kernel, stride=plan.stride, groups=wide)
        self.dw_norm = nn.BatchNorm2d(wide)
        self.project, self.project_norm = _conv(wide, plan.c_out, 1), nn.BatchNorm2d(plan.c_out)
        self.act = nn.ReLU()
        self.residual = plan.residual

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.expand_norm(self.expand(x)))
        y = self.act(self.dw_norm(self.dw(y)))
        y = self.project_norm(self.project(y))
        found: torch.Tensor = x + y if self.residual else y
        return found


class _ImageEnding(nn.Module):
    """Maps of stages to logits (B, outputs)."""

    def __init__(self, plan: CnnPlan) -> None:
        super().__init__()
        head = plan.geometry.head
        self.head = _conv(plan.c_out(len(plan.stages) - 1), head, 1)
        self.head_norm, self.act = nn.BatchNorm2d(head), nn.ReLU()
        self.classifier = nn.Linear(head, plan.geometry.outputs)

    def map_of(self, maps: list[torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = self.act(self.head_norm(self.head(maps[-1])))
        return found

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        found: torch.Tensor = self.classifier(self.map_of(maps).mean((2, 3)))
        return found


class _PixelEnding(nn.Module):
    """Maps of stages to logits (B, outputs, R, R), from the coarsest to the finest."""

    def __init__(self, plan: CnnPlan) -> None:
        super().__init__()
        head, self.resolution = plan.geometry.head, plan.resolution
        self.lateral = nn.ModuleDict(
            {str(i): _conv(plan.c_out(i), head, 1) for i in reversed(plan.geometry.lateral)}
        )
        self.blend, self.blend_norm, self.act = (
            _conv(head, head, 3),
            nn.BatchNorm2d(head),
            nn.ReLU(),
        )
        self.logits = nn.Conv2d(head, plan.geometry.outputs, 1)

    def map_of(self, maps: list[torch.Tensor]) -> torch.Tensor:
        total: torch.Tensor | None = None
        for stage, lateral in self.lateral.items():
            own = lateral(maps[int(stage)])
            total = own if total is None else own + _resized(total, own.shape[-1])
        found: torch.Tensor = self.logits(self.act(self.blend_norm(self.blend(total))))
        return found

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        return _resized(self.map_of(maps), self.resolution)


def _conv(c_in: int, c_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        c_in, c_out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )


def _resized(x: torch.Tensor, side: int) -> torch.Tensor:
    return functional.interpolate(x, (side, side), mode="bilinear", align_corners=False)
