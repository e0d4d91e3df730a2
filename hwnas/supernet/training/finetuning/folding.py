"""A fine-tuned NAS-LoRA with weights in the place of its cells, and what that loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from hwnas.adapters.kinds.nas_lora import FOLD_MODES, cells, fold_cells
from hwnas.errors import ConfigError
from hwnas.supernet.training.finetuning.attached_student import AttachedStudent
from hwnas.supernet.training.finetuning.opening import Finetuned, open_finetuned

__all__ = ["EXPORTS", "Folded", "open_folded"]

EXPORTS = ("branch", *FOLD_MODES)
"""Ways to deploy a trained cell; `branch` leaves it as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Folded:
    """A model whose cells are deployed in one way, and the residual of each layer, 0 to 1."""

    model: Finetuned
    residuals: Mapping[str, float]


def open_folded(folder: str | Path, export: str, images: Sequence[torch.Tensor]) -> Folded:
    """Open a run of `hwnas finetune` and deploy its cells as `export` says.

    `images` are normalized inputs (3, R, R) whose tokens the folds are fitted to, and their
    residuals |c - M z| / |c| measured on. A cell that was annealed is a weight already and loses
    nothing.

    Raises:
        CheckpointError: the folder holds no finished fine-tuning, or is damaged.
        ConfigError: it has no NAS-LoRA adapters, or its cells have no such fold.
    """
    if export not in EXPORTS:
        raise ConfigError(f"export {export!r}: expected one of {', '.join(EXPORTS)}")
    model = open_finetuned(folder)
    student = model.student
    found = {}
    if isinstance(student, AttachedStudent) and "default" in student.attached.specs:
        found = cells(student.attached.adapters("default"))
    if not found:
        raise ConfigError(
            f"{folder}: {model.facts['method']} has no cells; expected a run with --adapter "
            "nas_lora or nas_pc_lora"
        )
    branches = [path for path, cell in found.items() if cell.role == "branch"]
    if export == "branch" or not branches:
        return Folded(model, dict.fromkeys(found, 0.0))

    def run() -> None:
        with torch.no_grad():
            for image in images:
                model.embed(image[None])

    return Folded(model, fold_cells(found, run, mode=export))
