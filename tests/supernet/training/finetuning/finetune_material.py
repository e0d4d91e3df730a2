"""A tiny fine-tuning on drawn disks, also as a script to be killed.

`python finetune_material.py FOLDER KIND STEP` trains and kills itself after that step, 0 for never.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwnas.adapters import AdaptedLinear
from hwnas.config.finetuning import FinetuneConfig
from hwnas.supernet.training.finetuning.attached_student import AttachedStudent
from hwnas.supernet.training.finetuning.quantizing import add_quantizers
from hwnas.supernet.training.finetuning.run import FinetuneRun
from hwnas.supernet.training.loop import Progress
from tests.supernet.elastic_models import random_sam
from tests.supernet.training.elastic_material import disks

SIDE, STEPS = 64, 6


def tiny_recipe(kind: str = "lora", **changes: Any) -> FinetuneConfig:
    """A few steps at 64 pixels."""
    content: dict[str, Any] = {
        "adapter": {"kind": kind}, "resolution": SIDE, "images": 2, "prompts": 2,
        "steps": STEPS, "warmup": 0, "ema": 0.5, "weight_decay": 0.0,
        "rates": {"weights": 1e-2, "bitfit": 1e-2, "full": 1e-3, "decoder": 1e-3},
        "architecture": {"rate": 0.1, "warmup": 0.3, "frozen": 0.35},
        "validation": {"every": 100, "images": 1, "prompts": 2},
    }  # fmt: skip
    return FinetuneConfig.model_validate(content | changes)


def tiny_finetuning(folder: Path, config: FinetuneConfig, **changes: Any) -> FinetuneRun:
    """A run on five images; equal calls are equal runs."""
    images = disks(6)
    student = AttachedStudent(random_sam(), config, seed=0, gradients=some_gradients(config))
    if config.quantizer is not None:
        rng = torch.Generator().manual_seed(3)
        inputs = [torch.randn(3, SIDE, SIDE, generator=rng) for _ in range(2)]
        add_quantizers(student, inputs, config.quantizer, seed=0)
    return FinetuneRun(
        student, config, SIDE, images[:5], images[5:], folder, layers=student.layers, **changes
    )


def some_gradients(config: FinetuneConfig) -> dict[str, torch.Tensor]:
    """Made-up mean gradients of every linear layer, for adapters that want them."""
    rng = torch.Generator().manual_seed(5)
    return {
        name: torch.rand(module.weight.shape, generator=rng)
        for name, module in random_sam().named_modules()
        if isinstance(module, nn.Linear | AdaptedLinear)
    }


def tensors(run: FinetuneRun) -> dict[str, torch.Tensor]:
    """A copy of everything that the student holds."""
    return {k: v.detach().clone() for k, v in run.student.module.state_dict().items()}


def main(folder: str, kind: str, kill_after: int) -> None:
    """Train in `folder`, with a checkpoint after every step; kill this process after a step."""

    def watch(progress: Progress) -> None:
        if progress.step == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    run = tiny_finetuning(Path(folder), tiny_recipe(kind), progress=watch, save_seconds=0.0)
    run.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
