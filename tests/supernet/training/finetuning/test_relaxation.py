"""Stage-wise optimization: who trains when, and on which images."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.config.finetuning import ArchConfig, changed_finetuning
from hwnas.errors import ConfigError
from hwnas.supernet.training.finetuning.objective import Objective, held_out
from hwnas.supernet.training.finetuning.relaxation import Relaxation
from hwnas.supernet.training.loop import Progress
from tests.supernet.training.elastic_material import disks
from tests.supernet.training.finetuning.finetune_material import tiny_finetuning, tiny_recipe

ALPHA, PAIR = ".alpha", (".A", ".B")


def test_warmup_then_turns_then_frozen(tmp_path: Path) -> None:
    config = tiny_recipe(
        "nas_lora", steps=20, architecture={"warmup": 0.3, "frozen": 0.4, "rate": 0.1}
    )
    seen: list[tuple[torch.Tensor, torch.Tensor, float]] = []

    def watch(progress: Progress) -> None:
        state = run.student.module.state_dict()
        alpha = torch.cat([v.flatten() for k, v in state.items() if k.endswith(ALPHA)]).clone()
        pair = torch.cat([v.flatten() for k, v in state.items() if k.endswith(PAIR)]).clone()
        annealed = next(float(v) for k, v in state.items() if k.endswith(".t"))
        seen.append((alpha, pair, annealed))

    run = tiny_finetuning(tmp_path, config, progress=watch)
    run.run()
    moved = [not torch.equal(a[0], b[0]) for a, b in pairwise(seen)]
    weights = [not torch.equal(a[1], b[1]) for a, b in pairwise(seen)]
    # between the steps k and k + 1; the warm-up has 6 steps, the last 8 are frozen
    assert moved == [False] * 5 + [True] * 6 + [False] * 8
    assert all(weights)
    annealed = [t for _, _, t in seen]
    assert annealed[:13] == [0.0] * 13
    assert annealed[13] == pytest.approx(1 / 6)
    assert annealed[-2:] == [1.0, 1.0]


def test_weights_get_no_gradient_in_a_step_of_the_architecture(tmp_path: Path) -> None:
    run = tiny_finetuning(tmp_path, tiny_recipe("nas_lora"))
    groups = run.student.groups()
    arch = [p for _, p in groups["arch"]]
    weights = [p for _, p in groups["weights"]]
    with torch.no_grad():
        for p in weights:  # B is zero when fresh, and the architecture then has no gradient
            p.add_(0.01)
    relaxation = Relaxation(arch, run.student.adapters, ArchConfig())
    objective = Objective(run.student, run.config, 64)
    before = [p.detach().clone() for p in weights]
    start = [p.detach().clone() for p in arch]

    def loss() -> torch.Tensor:
        batch = objective.batch(run.train, np.random.default_rng(0), run.world.share)
        return objective.losses(batch)["loss"]

    relaxation.step(loss, weights, run.world)
    assert all(p.grad is None and p.requires_grad for p in weights)
    assert all(torch.equal(p, b) for p, b in zip(weights, before, strict=True))
    assert all(not torch.equal(p, b) for p, b in zip(arch, start, strict=True))
    assert not any(p.requires_grad for p in arch)
    # Adam's first step is its rate in every coordinate
    assert max(float((p - b).abs().max()) for p, b in zip(arch, start, strict=True)) == (
        pytest.approx(3e-4, rel=1e-3)
    )


def test_held_out_images_are_apart_and_complete() -> None:
    images = disks(10)
    own, others = held_out(images, 0.2, seed=4)
    assert (len(own), len(others)) == (8, 2)
    assert Counter(map(id, [*own, *others])) == Counter(map(id, images))
    both = held_out(images, 0.0, seed=4)
    assert both[0] is both[1]


def test_shares_that_leave_no_step_are_refused() -> None:
    with pytest.raises(ConfigError, match="leave no step"):
        changed_finetuning(
            {}, {"architecture.warmup": 0.6, "architecture.frozen": 0.4}, source="here"
        )
