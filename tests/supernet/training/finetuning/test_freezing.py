"""Quantizers of adapted layers, and rows that stay as they are (ov-freeze)."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwnas.adapters import AdaptedLinear
from hwnas.errors import ConfigError
from hwnas.quant.lsq import quantize_weight
from hwnas.supernet.training.finetuning.objective import Objective
from hwnas.supernet.training.finetuning.run import FinetuneRun
from hwnas.supernet.training.stage import Share
from tests.supernet.training.finetuning.finetune_material import (
    SIDE,
    tiny_finetuning,
    tiny_recipe,
)

ROWS = {"none": "", "o": "o", "v": "v", "ov": "ov", "qk": "qk", "qkv": "qkv"}
W4A8 = {"w_bits": 4, "a_bits": 8}


def quantized(layer: AdaptedLinear) -> torch.Tensor:
    """The weight (O, I) that products see."""
    assert layer.quantizer is not None
    with torch.no_grad():
        return quantize_weight(layer.effective_weight(), layer.quantizer.scale, 4)


def weights(run: FinetuneRun) -> dict[str, torch.Tensor]:
    return {path: quantized(layer) for path, layer in run.layers.items()}


def parts(path: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    if path.endswith("attn.proj"):
        return {"o": weight}
    if path.endswith("attn.qkv"):
        return dict(zip("qkv", weight.chunk(3), strict=True))
    return {}


@pytest.mark.parametrize("rows", list(ROWS))
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_frozen_rows_of_the_quantized_weight_stay(rows: str, kind: str, tmp_path: Path) -> None:
    config = tiny_recipe(
        kind, quantizer=W4A8, freeze={"rows": rows}, weight_decay=0.1, steps=4,
        rates={"weights": 0.1, "full": 0.1},
    )  # fmt: skip
    run = tiny_finetuning(tmp_path, config)
    before = weights(run)
    run.run()
    after = weights(run)
    changed: dict[str, float] = {}
    for path in before:
        for name, old in parts(path, before[path]).items():
            new = parts(path, after[path])[name]
            changed[name] = max(changed.get(name, 0.0), float((old != new).float().mean()))
    assert set(changed) == set("qkvo")
    for name, share in changed.items():
        assert (share == 0) == (name in ROWS[rows]), changed


def test_frozen_rows_get_no_gradient_and_others_do(tmp_path: Path) -> None:
    config = tiny_recipe("lora", quantizer=W4A8, freeze={"rows": "ov"})
    run = tiny_finetuning(tmp_path, config)
    run.run()  # B is no longer zero
    run.student.module.requires_grad_(False)
    objective = Objective(run.student, config, SIDE)
    for adapter in run.student.adapters:
        adapter.requires_grad_(True)
    batch = objective.batch(run.train, np.random.default_rng(0), Share())
    objective.losses(batch)["loss"].backward()
    for path, layer in run.layers.items():
        gradient = layer.adapter("default").B.grad
        for name, part in parts(path, gradient).items():
            assert bool(part.any()) == (name in "qk"), (path, name)


def test_rows_freeze_later_at_what_they_are_then(tmp_path: Path) -> None:
    config = tiny_recipe("lora", quantizer=W4A8, steps=8, freeze={"rows": "ov", "start": 0.5})
    seen: list[dict[str, torch.Tensor]] = []
    run = tiny_finetuning(
        tmp_path, config,
        progress=lambda _: seen.append(
            {path: layer.effective_weight().detach() for path, layer in run.layers.items()}
        ),
    )  # fmt: skip
    run.run()
    path = "image_encoder.blocks.0.attn.proj"
    same = [torch.equal(a[path], b[path]) for a, b in pairwise(seen)]
    assert same == [False] * 3 + [True] * 4  # after step 4 of 8 nothing moves
    layer = run.layers[path]
    assert not torch.equal(layer.effective_weight(), layer.weight)


def test_the_grid_fits_the_weight_and_the_inputs(tmp_path: Path) -> None:
    run = tiny_finetuning(tmp_path, tiny_recipe("lora", quantizer=W4A8))
    errors = []
    for layer in run.layers.values():
        assert layer.quantizer is not None
        assert (layer.quantizer.w_bits, layer.quantizer.a_bits) == (4, 8)
        errors.append(float((quantized(layer) - layer.weight).norm() / layer.weight.norm()))
    assert 0.01 < max(errors) < 0.2


def test_fixed_scales_stay_and_learned_ones_move(tmp_path: Path) -> None:
    for learned in (False, True):
        config = tiny_recipe("lora", quantizer={**W4A8, "learned": learned})
        run = tiny_finetuning(tmp_path / str(learned), config)
        before = [layer.quantizer.scale.clone() for layer in run.layers.values()]  # type: ignore[union-attr]
        run.run()
        after = [layer.quantizer.scale for layer in run.layers.values()]  # type: ignore[union-attr]
        moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert all(moved) if learned else not any(moved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter": {"kind": "lora", "targets": r".*lin1"}, "freeze": {"rows": "ov"}},
         "no adapted layer is an attention's"),
        ({"adapter": {"kind": "nas_lora"}, "freeze": {"rows": "ov", "start": 0.5}},
         "has a branch"),
    ],
)  # fmt: skip
def test_freezes_that_cannot_be_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    run = tiny_finetuning(tmp_path, tiny_recipe(**{"kind": "lora", **changes}))
    with pytest.raises(ConfigError, match=message):
        run.run()


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    run = tiny_finetuning(tmp_path, tiny_recipe("lora"))
    layer = next(iter(run.layers.values()))
    with pytest.raises(ConfigError, match="one for each output"):
        layer.freeze_rows(torch.zeros(3, dtype=torch.bool))
