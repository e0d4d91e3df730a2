"""A stranger's supernet: a small classifier of convolutions and norms that can be probed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hwnas.cost import CostContext
from hwnas.space import Arch, SearchSpace, ordinal
from hwnas.supernet.probing import (
    BatchSize,
    ImageBatch,
    Probe,
    Weights,
    draw_weights,
    weight_layers,
)
from hwnas.workload import ops
from hwnas.workload.layers import Workload
from hwnas.workload.ops import Bits

CLASSES = 3
_EDGE = Bits(8, 8, 8)


def cnn_space() -> SearchSpace:
    return SearchSpace(
        "small-cnn",
        [
            ordinal("resolution", (8, 16), role="resolution"),
            ordinal("depth", (1, 2, 3), role="depth"),
            ordinal("width", (4, 8), role="width"),
        ],
        lower=lower,
    )


def lower(arch: Arch) -> Workload:
    side, width = int(arch["resolution"]), int(arch["width"])
    body = [
        ops.conv(f"body.{i}.conv", (width, width), 3, side, _EDGE)
        for i in range(int(arch["depth"]))
    ]
    layers = (
        ops.conv("stem", (3, width), 3, side, _EDGE),
        *body,
        ops.linear("classifier", 1, width, CLASSES, _EDGE),
    )
    return Workload(layers, (3, side, side))


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm, self.act, self.residual = nn.BatchNorm2d(width), nn.ReLU(), True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.act(self.norm(self.conv(x)))
        return x + y if self.residual else y


class SmallCnn(nn.Module):
    def __init__(self, depth: int, width: int) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.act = nn.ReLU()
        self.body = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.drop, self.classifier = nn.Dropout(0.5), nn.Linear(width, CLASSES)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.body(self.act(self.norm(self.stem(x))))
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.drop(self.features(x).mean((2, 3))))
        return logits

    def remove_residuals(self) -> None:
        blocks: Any = self.body
        for block in blocks:
            block.residual = False


class CnnSupernet:
    """Hands out networks of its own; `scale` multiplies the loss, `reorder` the list of layers."""

    def __init__(
        self, scale: float = 1.0, reorder: Callable[[Any], Any] = tuple,
        batches: Callable[[list[ImageBatch]], Sequence[ImageBatch]] = list,
    ) -> None:  # fmt: skip
        self.scale, self.reorder, self.batches = scale, reorder, batches
        self.probes = 0

    def probe(self, arch: Arch, *, weights: Weights, seed: int) -> Probe:
        self.probes += 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = SmallCnn(int(arch["depth"]), int(arch["width"]))
        if weights == "fresh":
            draw_weights(module, seed)

        def loss(batch: ImageBatch) -> torch.Tensor:
            return self.scale * functional.cross_entropy(module(batch.images), batch.targets)

        side = int(arch["resolution"])
        return Probe(
            module, (3, side, side), self.reorder(weight_layers(module)), loss,
            features=module.features, remove_residuals=module.remove_residuals,
        )  # fmt: skip

    def probe_batches(self, arch: Arch, data: Any, size: BatchSize) -> Sequence[ImageBatch]:
        images, targets = data
        side, rng = int(arch["resolution"]), torch.Generator().manual_seed(size.seed)
        rows = torch.randperm(len(images), generator=rng)[: size.batches * size.images]
        resized = functional.interpolate(images[rows], (side, side), mode="bilinear")
        pairs = zip(resized.split(size.images), targets[rows].split(size.images), strict=True)
        return self.batches([ImageBatch(*pair) for pair in pairs])


def cnn_data(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(7)
    images = torch.randn(count, 3, 16, 16, generator=rng)
    return images, torch.randint(0, CLASSES, (count,), generator=rng)


def cnn_context(supernet: Any = None, seed: int = 0) -> CostContext:
    own = CnnSupernet() if supernet is None else supernet
    return CostContext(cnn_space(), supernet=lambda: own, data=cnn_data, seed=seed)


def cnn_arch(space: SearchSpace, depth: int = 2, width: int = 8, resolution: int = 8) -> Arch:
    return space.arch({"depth": depth, "width": width, "resolution": resolution})
