"""Fine-tuning one subnet of a quantized supernet that has adapters of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hwnas.errors import ConfigError
from hwnas.supernet.training.finetuning.run import FinetuneRun
from hwnas.supernet.training.finetuning.subnet_student import (
    SubnetStudent,
    merge_own_adapters,
    subnet_layers,
)
from tests.supernet.adapted_models import adapted
from tests.supernet.elastic_models import mixed_plan, smooth_images
from tests.supernet.training.elastic_material import disks
from tests.supernet.training.finetuning.finetune_material import some_gradients, tiny_recipe

PLAN = mixed_plan(resolution=128)


def student(kind: str = "lora", kept: Path | None = None, **changes: Any) -> SubnetStudent:
    config = tiny_recipe(kind, resolution=128, arch="any", **changes)
    supernet = adapted("multiplex")
    stock = some_gradients(config)
    gradients = {
        layer: stock[name]
        for layer in subnet_layers(PLAN)
        for name in stock
        if name.startswith(f"image_encoder.{layer.rpartition('.')[0]}.")
        and name.endswith(f".{layer.rpartition('.')[2]}")
    }
    return SubnetStudent(supernet, PLAN, config, seed=0, gradients=gradients, kept=kept)


def run_of(made: SubnetStudent, folder: Path) -> FinetuneRun:
    images = disks(4)
    return FinetuneRun(made, made.config, 128, images[:3], images[3:], folder)


@torch.no_grad()
def test_own_adapters_are_merged_for_the_plan() -> None:
    """At all bit-widths of the plan; a trained multiplex bank has other deltas at each."""
    image = smooth_images()[-1][None]
    supernet = adapted("multiplex")
    before = supernet.embed(image, PLAN)
    bare = adapted("multiplex")
    bare.encoder.adapters = None
    assert not torch.allclose(bare.embed(image, PLAN), before, rtol=1e-2)
    merge_own_adapters(supernet, PLAN)
    assert supernet.encoder.adapters is None
    torch.testing.assert_close(supernet.embed(image, PLAN), before, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["lora", "shira"])
def test_a_fresh_student_is_the_subnet(kind: str) -> None:
    image = smooth_images()[-1][None]
    before = adapted("multiplex").embed(image, PLAN)
    torch.testing.assert_close(student(kind).embed(image), before, rtol=1e-5, atol=1e-5)


def test_adapters_have_the_size_of_the_subnet() -> None:
    made = student()
    assert made.bank is not None
    assert set(made.bank.layers) == set(subnet_layers(PLAN))
    for layer, part in made.bank.layers.items():
        adapter = made.bank.adapter(layer, "base")
        assert adapter.delta(part).shape == part.shape
        assert adapter.B.shape == (part.shape[0], 8)


@pytest.mark.parametrize("kind", ["lora", "dora", "shira", "bitfit", "decoder"])
def test_only_the_declared_parameters_move(kind: str, tmp_path: Path) -> None:
    made = student(kind)
    run = run_of(made, tmp_path)
    declared = {name for group in made.groups().values() for name, _ in group}
    before = {k: v.detach().clone() for k, v in made.named_parameters()}
    run.run()
    after = dict(made.named_parameters())
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved
    assert moved <= declared
    assert not any("scales" in name for name in moved)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    made = student(train_decoder=True)
    run_of(made, tmp_path).run()
    (file,) = made.write_adapters(tmp_path)
    again = student(train_decoder=True, kept=file.parent)
    again.load_tuned(made.tuned_tensors(), source="here")
    image = smooth_images()[-1][None]
    with torch.no_grad():
        assert torch.equal(again.embed(image), made.embed(image))
        assert not torch.equal(again.embed(image), student().embed(image))


@pytest.mark.parametrize("kind", ["conv_lora", "nas_lora"])
def test_a_branch_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"is a branch: it runs beside a layer, and a subnet"):
        student(kind)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter": {"targets": "blocks.0.qkv"}}, "matches no layer of the subnet"),
        ({"quantizer": {}}, "has bit-widths of its own"),
        ({"freeze": {"rows": "ov"}}, "not for a subnet"),
    ],
)
def test_what_a_subnet_cannot_have_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        student(**changes)
