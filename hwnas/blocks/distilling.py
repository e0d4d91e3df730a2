"""Training of one block on the teacher's features: in from before the slot, out from after it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from hwnas.blocks.noise import ChannelScale, errors_of_images
from hwnas.blocks.slot import ConvMixer, SlotModule
from hwnas.errors import TrainingError

__all__ = ["Distillation", "Material", "distill", "rounded"]

_FINISH, _DRAWN = 0.1, 3.0  # learning rates over that of the recipe


@dataclass(frozen=True, slots=True)
class Distillation:
    """How a block is trained: AdamW, a cosine from `lr` to 0 after a tenth of warm-up.

    A shape takes `steps` steps in floating point; from there each of its bit-widths, floating
    point among them, takes `finish` more at a tenth of the rate, so that all have been trained for
    as long. Weights that no slice of the teacher started learn at three times the rate. What is
    kept is a moving average of the weights (`decay`).
    """

    steps: int = 60
    finish: int = 20
    batch: int = 8
    lr: float = 1e-3
    decay: float = 0.9


@dataclass(frozen=True, eq=False)
class Material:
    """The teacher's features before and after a slot, (n, g, g, C) each, and where they count."""

    inputs: torch.Tensor
    targets: torch.Tensor
    valid: torch.Tensor
    scale: ChannelScale


def distill(
    slot: SlotModule, material: Material, how: Distillation, *, finish: bool, rng: torch.Generator
) -> None:
    """Train a slot in place, from the start or to `finish` it; batches are drawn with `rng`.

    Raises:
        TrainingError: the loss is not finite.
    """
    steps, lr = (how.finish, _FINISH * how.lr) if finish else (how.steps, how.lr)
    groups = _groups(slot)
    trained = [p for group in groups for p in group["params"]]
    optimizer = torch.optim.AdamW(groups, lr=lr, weight_decay=0.0)
    average = [p.detach().clone() for p in trained]
    images = len(material.inputs)
    order = torch.empty(0, dtype=torch.long)
    for step in range(steps):
        if len(order) < how.batch:
            order = torch.cat([order, torch.randperm(images, generator=rng)])
        rows, order = order[: how.batch], order[how.batch :]
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * lr * _schedule(step, steps)
        loss = errors_of_images(
            slot(material.inputs[rows]), material.targets[rows], material.valid[rows],
            material.scale,
        ).mean()  # fmt: skip
        if not bool(torch.isfinite(loss)):
            raise TrainingError(
                f"{slot.option.name}: the loss is {loss.item()} after {step} steps; lower --lr "
                f"(now {how.lr:g})"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        keep = min(how.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, parameter in zip(average, trained, strict=True):
                kept.lerp_(parameter, 1 - keep)
    with torch.no_grad():
        for kept, parameter in zip(average, trained, strict=True):
            parameter.copy_(kept)


@torch.no_grad()
def rounded(slot: SlotModule) -> dict[str, torch.Tensor]:
    """Round matrices and kernels to float16, in the slot too; what its file holds, by name."""
    found = {}
    for name, parameter in slot.named_parameters():
        if parameter.dim() > 1:
            half = parameter.half()
            parameter.copy_(half)
            found[name] = half.clone()
        else:
            found[name] = parameter.detach().clone()
    return found


def _groups(slot: SlotModule) -> list[dict[str, Any]]:
    """Parameters that slices of the teacher started, and those that were drawn."""
    mixers = [module for module in slot.modules() if isinstance(module, ConvMixer)]
    drawn = {id(p) for mixer in mixers for p in mixer.parameters()}
    trained = [p for p in slot.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if id(p) not in drawn], "rate": 1.0},
        {"params": [p for p in trained if id(p) in drawn], "rate": _DRAWN},
    ]
    return [group for group in groups if group["params"]]


def _schedule(step: int, steps: int) -> float:
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
