"""A fine-tuned model, from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hwnas.errors import CheckpointError
from hwnas.supernet.side.student import SideStudent
from hwnas.supernet.training.finetuning.attached_student import AttachedStudent
from hwnas.supernet.training.finetuning.kept import ADAPTER, adopt, read_run
from hwnas.supernet.training.finetuning.starting import fresh_student, open_base
from hwnas.supernet.training.finetuning.subnet_student import SubnetStudent

__all__ = ["Finetuned", "open_finetuned"]


@dataclass(frozen=True, slots=True, eq=False)
class Finetuned:
    """A fine-tuned model in eval mode, frozen.

    Attributes:
        student: The model with its adapters, or with a network beside it.
        facts: What `finetuned.json` says of it.
        resolution: The side that it was trained at.
        fixed: Whether it takes that side alone, as a subnet does.
    """

    student: AttachedStudent | SubnetStudent | SideStudent
    facts: Mapping[str, Any]
    resolution: int
    fixed: bool

    @property
    def sam(self) -> Any:
        """The model whose prompt encoder and mask decoder belong to it."""
        return self.student.sam

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized images (B, 3, R, R) to embeddings (B, 256, R / 16, R / 16)."""
        return self.student.embed(images)


def open_finetuned(folder: str | Path, *, base: str | Path | None = None) -> Finetuned:
    """The model that `finetune` has left in a folder.

    `base` is where its base lies, if not where it was.

    Raises:
        CheckpointError: the folder holds no finished fine-tuning, is damaged, or belongs to
            another base.
        PluginError: its adapter is not installed here.
    """
    run = read_run(folder)
    config, facts = run.config, run.facts
    if base is not None:
        config = config.model_copy(update={"base": str(base)})
    found = open_base(config, lambda _: dict(facts["arch"]))
    if found.hash != facts["base_hash"]:
        raise CheckpointError(
            f"{folder} was fine-tuned from other weights than {config.base}; give the base that "
            f"it belongs to ({facts['recipe']['base']}, sha256 {facts['base_hash'][:12]}…)"
        )
    kept = run.folder / ADAPTER if config.reference is None else None
    student = fresh_student(found, config, seed=int(facts["seed"]), kept=kept)
    adopt(student, run)
    return Finetuned(student, facts, found.resolution, fixed=found.plan is not None)
