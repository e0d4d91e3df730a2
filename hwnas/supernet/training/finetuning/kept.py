"""What a fine-tuning leaves in its folder, and how it is read again.

`finetuned.json` says what was done. The folder `adapter` holds the adapters: those of a plain model
as `hwnas.adapters.files` has them, which huggingface/peft reads where it knows the kind; those of
a subnet as one file. `tuned.safetensors` holds whatever else was trained or made: the decoder,
biases, the whole encoder, quantizers, frozen rows. The base is not copied; its hash is compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hwnas.config.finetuning import FinetuneConfig, changed_finetuning
from hwnas.errors import CheckpointError
from hwnas.records.files import explained, replace_text
from hwnas.supernet.checkpoint import read_tensors, save_weights
from hwnas.supernet.training.finetuning.student import Student, settle

__all__ = ["ADAPTER", "FACTS", "TUNED", "KeptRun", "adopt", "is_finetuned", "read_run",
           "write_run"]  # fmt: skip

FACTS, ADAPTER, TUNED = "finetuned.json", "adapter", "tuned.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class KeptRun:
    """A fine-tuning that is done, as its folder has it."""

    folder: Path
    facts: Mapping[str, Any]
    config: FinetuneConfig
    tuned: Mapping[str, torch.Tensor]


def is_finetuned(folder: str | Path) -> bool:
    """Whether a fine-tuning has been finished in this folder."""
    return (Path(folder) / FACTS).is_file()


def write_run(folder: Path, student: Student, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write all files, the description last; returns it, with the sizes of the others in bytes."""
    adapters = student.write_adapters(folder / ADAPTER)
    path, tuned = folder / TUNED, student.tuned_tensors()
    if tuned:
        with explained("write", path):
            save_weights(path, {k: _storable(v) for k, v in tuned.items()})
    whole = {
        **facts,
        "adapter_bytes": sum(file.stat().st_size for file in adapters),
        "tuned_bytes": path.stat().st_size if tuned else 0,
    }
    replace_text(folder / FACTS, json.dumps(whole, indent=1))
    return whole


def read_run(folder: str | Path) -> KeptRun:
    """Read what `write_run` wrote.

    Raises:
        CheckpointError: it is none, or damaged.
    """
    folder = Path(folder)
    try:
        facts = dict(json.loads((folder / FACTS).read_text(encoding="utf-8")))
        recipe = facts["recipe"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder}: no finished fine-tuning ({type(error).__name__}: {error}); expected a "
            f"folder that `hwnas finetune` has written, with {FACTS} in it"
        ) from error
    config = changed_finetuning(recipe, {}, source=str(folder / FACTS))
    path = folder / TUNED
    return KeptRun(folder, facts, config, read_tensors(path) if path.is_file() else {})


def adopt(student: Student, run: KeptRun) -> None:
    """Give a student with a run's adapters the rest of it; it is left in eval mode, frozen.

    Raises:
        CheckpointError: the tensors are not those of such a student.
    """
    student.load_tuned(run.tuned, source=str(run.folder / TUNED))
    settle(student.adapters)
    student.module.requires_grad_(False).eval()


def _storable(value: torch.Tensor) -> torch.Tensor:
    """On the CPU, with a memory of its own."""
    return value.detach().to("cpu").contiguous().clone()
