"""Checkpoints of a stage: tensors as safetensors, all else as JSON, nothing pickled.

A checkpoint is a folder that is renamed into place, so its two files are always of one moment. A
stage that is done leaves one file, `stages/NAME.safetensors`, with its figures as metadata.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file

from hwnas.errors import CheckpointError
from hwnas.records.files import explained
from hwnas.supernet.checkpoint import read_metadata, save_weights

__all__ = ["read_checkpoint", "read_result", "write_checkpoint", "write_result"]

_TENSORS, _FACTS = "state.safetensors", "state.json"
_ADVICE = "delete it to repeat the stage"


def write_checkpoint(
    folder: Path, stage: str, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
) -> None:
    """Put a checkpoint into `folder`, whole or not at all, in place of the last one.

    `facts` holds the step, `"step"`, among other JSON values.
    """
    final = folder / f"{stage}-{facts['step']:08d}"
    draft = folder / f".{final.name}.part"
    with explained("write", final):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        save_file({k: v.detach().contiguous() for k, v in tensors.items()}, draft / _TENSORS)
        (draft / _FACTS).write_text(json.dumps(facts), encoding="utf-8")
        for path in (draft / _TENSORS, draft / _FACTS, draft):
            _sync(path)
        old = [p for p in _of(folder, stage) if p != final]
        if final.exists():  # the same step again, after a stop
            shutil.rmtree(final)
        draft.rename(final)
        _sync(folder)
        for path in old:
            shutil.rmtree(path)


def read_checkpoint(folder: Path, stage: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors and facts of the newest checkpoint, both empty where there is none.

    Raises:
        CheckpointError: it is damaged.
    """
    found = _of(folder, stage)
    if not found:
        return {}, {}
    path = found[-1]
    try:
        facts = json.loads((path / _FACTS).read_text(encoding="utf-8"))
        return load_file(path / _TENSORS), dict(facts)
    except (safetensors.SafetensorError, OSError, ValueError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{path}: cannot be read ({reason}); {_ADVICE}") from error


def write_result(
    folder: Path, stage: str, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]
) -> None:
    """Keep what a stage has made, and drop its checkpoints."""
    path = folder / "stages" / f"{stage}.safetensors"
    with explained("write", path):
        save_weights(path, dict(tensors), metadata={"facts": json.dumps(facts)})
        for old in _of(folder / "checkpoint", stage):
            shutil.rmtree(old)


def read_result(folder: Path, stage: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """What a stage that is done has made, None where it is not done.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / "stages" / f"{stage}.safetensors"
    if not path.is_file():
        return None
    try:
        return load_file(path), dict(json.loads(read_metadata(path)["facts"]))
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{path}: cannot be read ({reason}); {_ADVICE}") from error


def _of(folder: Path, stage: str) -> list[Path]:
    pattern = f"{stage}-" + "[0-9]" * 8
    return sorted(folder.glob(pattern)) if folder.is_dir() else []


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
