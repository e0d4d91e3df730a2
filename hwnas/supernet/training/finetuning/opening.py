"""A fine-tuned model, from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hwnas.adapters.files import load
from hwnas.errors import CheckpointError
from hwnas.supernet.side.student import SideStudent
from hwnas.supernet.training.finetuning.attached_student import AttachedStudent
from hwnas.supernet.training.finetuning.kept import ADAPTER, KeptRun, adopt, read_run
from hwnas.supernet.training.finetuning.starting import fresh_student, open_base
from hwnas.supernet.training.finetuning.student import settle
from hwnas.supernet.training.finetuning.subnet_student import SubnetStudent

__all__ = ["Finetuned", "open_finetuned", "open_together"]


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


def open_together(folders: Sequence[str | Path], *, base: str | Path | None = None) -> Finetuned:
    """One base with the adapters of several runs on it at once; what they add, adds up.

    Only adapters of a plain model can be put together: nothing else of these runs may have been
    trained, and a quantized base has to have the same grids in all of them (`hwnas finetune` with
    the same seed, bits and data gives it the same, whatever kinds of images it trains on).

    Raises:
        CheckpointError: as `open_finetuned`, or the runs do not go together.
    """
    first, *others = folders
    found = open_finetuned(first, base=base)
    if not others:
        return found
    student, own = found.student, read_run(first)
    if not isinstance(student, AttachedStudent) or own.config.reference is not None:
        raise CheckpointError(f"{first}: {found.facts['method']} is no adapter that others join")
    _require_grids_alone(own)
    for number, folder in enumerate(others, 2):
        run = read_run(folder)
        if run.facts["base_hash"] != found.facts["base_hash"] or run.config.arch is not None:
            raise CheckpointError(f"{folder} belongs to another base than {first}")
        _require_grids_alone(run)
        if run.tuned.keys() != own.tuned.keys() or any(
            not torch.equal(value, own.tuned[name]) for name, value in run.tuned.items()
        ):
            raise CheckpointError(
                f"{folder} has other grids of its quantizers than {first}; fine-tune both with the "
                "same seed, bits and data"
            )
        load(student.attached, run.folder / ADAPTER, name=f"adapter-{number}")
    student.attached.activate(*student.attached.specs)
    settle(student.adapters)
    student.module.requires_grad_(False).eval()
    methods = " + ".join(read_run(folder).facts["method"] for folder in folders)
    return replace(found, facts={**found.facts, "method": methods})


def _require_grids_alone(run: KeptRun) -> None:
    """Beside adapters a run may have left grids of quantizers, nothing else."""
    other = [name for name in run.tuned if ".quantizer." not in name]
    if other or not (run.folder / ADAPTER).is_dir():
        raise CheckpointError(
            f"{run.folder} has trained {', '.join(other[:3]) or 'no adapter'}, which cannot be put "
            "together with another run's; leave out train_decoder, freeze and the references"
        )
