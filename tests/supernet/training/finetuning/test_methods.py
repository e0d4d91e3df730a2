"""Every method of fine-tuning trains, and trains what it declares alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwnas.config.finetuning import REFERENCES
from hwnas.registry import adapters as registry
from hwnas.supernet.training.finetuning.objective import Objective
from hwnas.supernet.training.finetuning.run import FinetuneRun
from hwnas.supernet.training.stage import Share
from tests.supernet.training.finetuning.finetune_material import (
    SIDE,
    tensors,
    tiny_finetuning,
    tiny_recipe,
)

KINDS = [name for name in registry.names() if "." not in name and "/" not in name]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loss_of(run: FinetuneRun) -> float:
    """The loss on one batch, in eval mode."""
    objective = Objective(run.student, run.config, SIDE, teacher=run.teacher)
    run.student.module.eval()
    batch = objective.batch(run.train, np.random.default_rng(11), Share())
    with torch.no_grad():
        return float(objective.losses(batch)["loss"])


def trained(run: FinetuneRun) -> tuple[set[str], set[str]]:
    """Names that were declared, and names whose values have moved."""
    declared = {name for group in run.student.groups().values() for name, _ in group}
    before = tensors(run)
    run.run()
    after = tensors(run)
    return declared, {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("kind", [*KINDS, *REFERENCES])
def test_the_loss_moves_and_only_declared_parameters_do(kind: str, tmp_path: Path) -> None:
    run = tiny_finetuning(tmp_path, tiny_recipe(kind))
    buffers = {name for name, _ in run.student.module.named_buffers()}
    before = loss_of(run)
    declared, moved = trained(run)
    assert moved - buffers <= declared
    assert moved & declared
    assert abs(loss_of(run) - before) > 1e-4
    names = {name for name in moved - buffers if ".adapters." not in name}
    parts = {"decoder": ("sam.mask_decoder.",), "full": ("sam.image_encoder.",)}
    parts["bitfit"] = parts["full"]
    assert all(name.startswith(parts.get(kind, ())) for name in names)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = tiny_finetuning(tmp_path, tiny_recipe("lora", steps=30, train_decoder=True))
    before = loss_of(run)
    run.run()
    assert loss_of(run) < 0.9 * before


def test_bitfit_trains_no_matrix(tmp_path: Path) -> None:
    run = tiny_finetuning(tmp_path, tiny_recipe("bitfit"))
    shapes = [p.ndim for group in run.student.groups().values() for _, p in group]
    assert set(shapes) == {1}


def test_the_decoder_trains_beside_an_adapter(tmp_path: Path) -> None:
    run = tiny_finetuning(tmp_path, tiny_recipe("lora", train_decoder=True))
    declared, moved = trained(run)
    assert any(name.startswith("sam.mask_decoder.") for name in moved)
    assert any(".adapters." in name for name in moved)
    assert moved <= declared
    assert set(run.trainable) == {"weights", "decoder"}


@pytest.mark.parametrize("changes", [{"task": 0.0}, {}])
def test_a_teacher_is_learned_from(changes: dict[str, Any], tmp_path: Path) -> None:
    from hwnas.supernet.sam_model import encode
    from hwnas.supernet.training.finetuning.objective import Teacher
    from tests.supernet.elastic_models import random_sam

    other = random_sam(seed=1).requires_grad_(False)
    teacher = Teacher(other, lambda images: encode(other, images))
    distil = {"mask": 1.0, "embedding": 1.0}
    run = tiny_finetuning(
        tmp_path, tiny_recipe("full", distil=distil, steps=20, **changes), teacher=teacher
    )
    objective = Objective(run.student, run.config, SIDE, teacher=teacher)
    batch = objective.batch(run.train, np.random.default_rng(1), Share())
    before = float(objective.losses(batch)["embedding_loss"])
    run.run()
    assert float(objective.losses(batch)["embedding_loss"]) < 0.9 * before
