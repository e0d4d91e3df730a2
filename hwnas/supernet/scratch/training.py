"""Training one small network from scratch, and its answers."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import nn

from hwnas.errors import ConfigError, TrainingError
from hwnas.supernet.scratch.tasks import TileSet, tile_loss

__all__ = ["Recipe", "Trained", "predict", "train"]

_WARM_UP = 0.1  # of the steps
_DECAY = 0.02
_PREDICTED = 256  # tiles at a time
_QUARTERS = 4


@dataclass(frozen=True, slots=True)
class Recipe:
    """How every network is trained: AdamW, a warm-up over a tenth of the steps, then a cosine to 0.

    Attributes:
        steps: Updates.
        batch: Tiles a step, drawn without replacement until all were seen; turned and flipped.
        rate: Largest learning rate.
        max_seconds: Of one training, after which it is given up.

    Raises:
        ConfigError: values that make no sense, all of them.
    """

    steps: int = 160
    batch: int = 32
    rate: float = 4e-3
    max_seconds: float = 120.0

    def __post_init__(self) -> None:
        wrong = [
            f"--{name.replace('_', '-')} {getattr(self, name)}: expected more than {low}"
            for name, low in {"steps": 0, "batch": 1, "rate": 0, "max_seconds": 0}.items()
            if not getattr(self, name) > low
        ]
        if wrong:
            raise ConfigError("; ".join(wrong))


@dataclass(frozen=True, slots=True)
class Trained:
    """How a training went: steps done, seconds, and the mean loss of its last tenth."""

    steps: int
    seconds: float
    loss: float


def train(network: nn.Module, tiles: TileSet, recipe: Recipe, seed: int) -> Trained:
    """Train a network in place; equal seeds, equal weights, on one machine with as many threads.

    A training that takes longer than the recipe allows ends before its last step.

    Raises:
        TrainingError: the loss is not finite.
    """
    rng = torch.Generator().manual_seed(seed % 2**63)
    network.train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.rate, weight_decay=_DECAY, fused=True
    )
    started, losses = time.perf_counter(), list[float]()
    left = torch.empty(0, dtype=torch.int64)
    for step in range(recipe.steps):
        if time.perf_counter() - started > recipe.max_seconds:
            break
        if len(left) < min(recipe.batch, len(tiles)):
            left = torch.randperm(len(tiles), generator=rng)
        rows, left = left[: recipe.batch], left[recipe.batch :]
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * _share(step, recipe.steps)
        turn = int(torch.randint(2 * _QUARTERS, (), generator=rng))
        images = _turned(tiles.inputs(rows), turn)
        targets = tiles.targets[rows]
        loss = tile_loss(network(images), _turned(targets, turn) if targets.ndim > 1 else targets)
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise TrainingError(f"the loss of step {step} is {losses[-1]}; lower the rate")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    last = losses[-max(1, recipe.steps // 10) :]
    return Trained(len(losses), time.perf_counter() - started, sum(last) / max(1, len(last)))


@torch.inference_mode()
def predict(network: nn.Module, tiles: TileSet) -> torch.Tensor:
    """The logits of all tiles, by the running statistics of the norms."""
    network.eval()
    parts = (slice(i, i + _PREDICTED) for i in range(0, len(tiles), _PREDICTED))
    return torch.cat([network(tiles.inputs(rows)) for rows in parts])


def _share(step: int, steps: int) -> float:
    """Part of the largest rate at a step."""
    warm = max(1, round(_WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _turned(x: torch.Tensor, turn: int) -> torch.Tensor:
    """One of eight turns and flips of the last two dimensions."""
    x = torch.rot90(x, turn % _QUARTERS, (-2, -1))
    return x.flip(-1) if turn >= _QUARTERS else x
