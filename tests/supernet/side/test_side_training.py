"""Side networks in the common training loop: steps, resuming, caches, clips, what they cost."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hwnas.config.finetuning import FinetuneConfig
from hwnas.config.training import BatchConfig, TrainConfig
from hwnas.errors import CheckpointError, ConfigError, Interrupted
from hwnas.supernet.side.feature_cache import FeatureCache
from hwnas.supernet.side.features import Features, SamBackbone, SubnetBackbone
from hwnas.supernet.side.network import side_network
from hwnas.supernet.side.stage import SideTraining, side_stage
from hwnas.supernet.side.student import SideStudent, side_student
from hwnas.supernet.side.tasks import ClipTask, FixedViews
from hwnas.supernet.training.elastic.tasks import PromptTask
from hwnas.supernet.training.finetuning.kept import adopt, read_run, write_run
from hwnas.supernet.training.finetuning.run import FinetuneRun
from hwnas.supernet.training.finetuning.step_cost import (
    FinetuneStepCost,
    FinetuneStepSpec,
    measure_finetune_step,
)
from hwnas.supernet.training.loop import run_stage
from hwnas.supernet.training.stage import Stage
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.elastic_models import TINY, calibrated, mixed_plan
from tests.supernet.side.side_models import GEOMETRY, tiny_sam
from tests.supernet.training.elastic_material import disks

SIZE = BatchConfig(resolution=128, share=1, images=2, prompts=2)
RECIPE = TrainConfig(batches=(SIZE,))


def student(method: str = "losa", *, train_decoder: bool = False, **options: Any) -> SideStudent:
    sam = tiny_sam()
    side = side_network(GEOMETRY, method, **options)
    return SideStudent(sam, SamBackbone(sam), side, train_decoder=train_decoder)


def stage_of(own: SideStudent, task: Any, steps: int = 4, **changes: Any) -> Stage:
    training = SideTraining(steps, rate=1e-2, validate_every=100)
    stage = side_stage(own, task, disks(4), SIZE, training, lambda: {"val": 0.0})
    return replace(stage, **changes)


@pytest.mark.parametrize("method", ["losa", "lst", "res_bypass"])
def test_a_stage_trains_the_side_network_and_nothing_else(method: str, tmp_path: Path) -> None:
    own = student(method)
    before = {k: v.clone() for k, v in own.state_dict().items()}
    run_stage(stage_of(own, PromptTask(RECIPE)), tmp_path, seed=0)
    changed = {k for k, v in own.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {k for k in before if k.startswith("side.")}


def test_the_decoder_trains_at_its_own_rate_where_asked(tmp_path: Path) -> None:
    own = student("lst", train_decoder=True)
    before = {k: v.clone() for k, v in own.sam.state_dict().items()}
    stage = stage_of(own, PromptTask(RECIPE))
    groups = {g.name: (g.rate, g.weight_decay) for g in stage.groups}
    assert groups == {"weights": (1e-2, 1e-4), "gate": (1e-2, 0.0), "decoder": (2e-4, 1e-4)}
    run_stage(stage, tmp_path, seed=0)
    changed = {k for k, v in own.sam.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert all(k.startswith("mask_decoder.") for k in changed)
    (tensors, facts) = sorted(own.write_adapters(tmp_path / "kept"))
    assert (tensors.suffix, facts.name) == (".safetensors", "side.json")
    other = side_student(tiny_sam(), "lst", train_decoder=True, kept=tmp_path / "kept")
    other.load_tuned(own.tuned_tensors(), source="test")
    images = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(other.embed(images), own.embed(images))
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in own.state_dict().items())
    with pytest.raises(CheckpointError, match="make it with train_decoder"):
        student("lst").load_tuned(own.tuned_tensors(), source="test")
    with pytest.raises(CheckpointError, match="missing"):
        other.load_tuned({}, source="test")
    with pytest.raises(CheckpointError, match="beside another encoder"):
        side_student(tiny_sam(4), "lst", kept=tmp_path / "kept")


def test_a_killed_run_ends_like_an_undisturbed_one(tmp_path: Path) -> None:
    whole, killed = student(), student()
    run_stage(stage_of(whole, PromptTask(RECIPE)), tmp_path / "whole", seed=3)
    stage = stage_of(killed, PromptTask(RECIPE))
    steps = 0

    def interrupted(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return stage.accumulate(*args)

    with pytest.raises(Interrupted):
        run_stage(replace(stage, accumulate=interrupted), tmp_path / "killed", seed=3)
    fresh = student()
    run_stage(stage_of(fresh, PromptTask(RECIPE)), tmp_path / "killed", seed=3)
    found = fresh.side.state_dict()
    assert all(torch.equal(value, found[k]) for k, value in whole.side.state_dict().items())


def test_fixed_views_are_encoded_once(tmp_path: Path) -> None:
    own = student()
    cache = FeatureCache(tmp_path / "cache", own.encoder.backbone, own.side)
    cached = SideStudent(own.sam, own.encoder.backbone, own.side, read=cache)
    stage = stage_of(cached, FixedViews(RECIPE, views=2), steps=30)
    run_stage(stage, tmp_path, seed=0)
    assert cache.encoded == 4 * 2  # images by views, in 60 rows
    again = FeatureCache(tmp_path / "cache", own.encoder.backbone, own.side)
    other = SideStudent(own.sam, own.encoder.backbone, own.side, read=again)
    run_stage(stage_of(other, FixedViews(RECIPE, views=2), steps=5), tmp_path / "b", seed=1)
    assert again.encoded == 0


def test_fixed_views_have_fresh_prompts_and_depend_on_the_picture() -> None:
    task = FixedViews(RECIPE, views=1)
    images = disks(1)
    size = SIZE.model_copy(update={"images": 1})
    one, two = (
        task.batch(images, size, np.random.default_rng(seed), slice(None)) for seed in (0, 1)
    )
    assert torch.equal(one.images, two.images)
    assert not torch.equal(one.boxes, two.boxes)
    other = task.batch(disks(1, seed=5), size, np.random.default_rng(0), slice(None))
    assert not torch.equal(other.images, one.images)


def test_clips_train_a_network_with_a_time_axis(tmp_path: Path) -> None:
    own = student(frames=3)
    task = ClipTask(RECIPE, 3)
    batch = task.batch(disks(4), SIZE, np.random.default_rng(0), slice(0, 1))
    assert batch.images.shape == (3, 3, 128, 128)
    assert batch.boxes.shape == (3, 1, 4)
    assert not torch.equal(batch.images[0], batch.images[2])
    stage = side_stage(
        own, task, disks(4), SIZE, SideTraining(3, rate=1e-2), lambda: {"val": 0.0}, frames=3
    )
    run_stage(stage, tmp_path, seed=0)
    time: Any = own.side.cells[0].time
    assert time.up.any()


def test_a_subnet_is_trained_beside(tmp_path: Path) -> None:
    supernet = calibrated()
    plan = mixed_plan()
    before = supernet.embed(torch.zeros(1, 3, 128, 128), plan)
    side = side_network(TINY, "losa", film=True)
    # the decoder of TINY has 32 channels, as its encoder's neck
    own = SideStudent(supernet.sam, SubnetBackbone(supernet, plan), side)
    run_stage(stage_of(own, PromptTask(RECIPE), steps=2), tmp_path, seed=0)
    assert torch.equal(supernet.embed(torch.zeros(1, 3, 128, 128), plan), before)
    with torch.no_grad():
        assert (own.embed(torch.zeros(1, 3, 128, 128)) - before).abs().max() > 0


def test_steps_of_side_networks_keep_less_than_those_of_adapters() -> None:
    def cost(method: str, depth: int = 3, **options: Any) -> FinetuneStepCost:
        geometry = replace(GEOMETRY, depth=depth, global_blocks=(depth - 1,))
        return measure_finetune_step(
            FinetuneStepSpec(
                geometry, method, options, resolution=128, images=1, prompts=2, steps=1
            )
        )

    losa, less = cost("losa"), cost("losa", recompute=True)
    lora, full = cost("lora", rank=8), cost("full")
    assert less.saved_bytes < losa.saved_bytes < lora.saved_bytes <= full.saved_bytes
    assert cost("losa", 6, taps="global").saved_bytes == cost("losa", taps="global").saved_bytes
    assert cost("lora", 6).saved_bytes > lora.saved_bytes
    assert losa.trained == sum(p.numel() for p in side_network(GEOMETRY, "losa").parameters())
    assert losa.median > 0
    with pytest.raises(ConfigError):
        cost("losa", rank=0)


@pytest.mark.parametrize("with_plan", [False, True])
def test_a_fine_tuning_takes_a_side_network_for_a_student(tmp_path: Path, with_plan: bool) -> None:
    config = FinetuneConfig(steps=2, images=2, prompts=2, validation={"prompts": 2})
    net, plan = (calibrated(), mixed_plan()) if with_plan else (tiny_sam(), None)
    own = side_student(net, "losa", {"taps": "global", "recompute": True}, seed=4, plan=plan)
    data = disks(4)
    run = FinetuneRun(own, config, 128, data, data[:1], tmp_path)
    figures = run.run()
    assert {"val.box", "val.point"} <= set(figures)
    assert run.trainable == {"weights": sum(p.numel() for p in own.side.parameters())}
    write_run(tmp_path, own, {"recipe": config.model_dump(mode="json")})
    other = side_student(net, "losa", plan=plan, kept=tmp_path / "adapter")
    adopt(other, read_run(tmp_path))
    images = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        assert torch.equal(other.embed(images), own.embed(images))


def test_a_supernet_needs_a_plan_and_a_plain_model_none() -> None:
    with pytest.raises(ConfigError, match="expected a supernet with the plan of one subnet"):
        side_student(calibrated(), "losa")
    with pytest.raises(ConfigError, match="a plain model without one"):
        side_student(tiny_sam(), "losa", plan=mixed_plan())
    with pytest.raises(ConfigError, match="ranks"):
        side_student(tiny_sam(), "losa", {"ranks": 4})


def test_one_network_learns_beside_several_subnets(tmp_path: Path) -> None:
    net = calibrated()
    plans = [EncoderPlan.uniform(TINY, w_bits=w, a_bits=8, attn_bits=8) for w in (2, 4)]
    own = side_student(net, "losa", {"film": True}, plan=EncoderPlan.uniform(TINY))
    read: list[int] = []

    class Told(SubnetBackbone):
        def read(self, *args: Any, **kwargs: Any) -> Features:
            read.append(self.plan.blocks[0].w_bits[0])
            return super().read(*args, **kwargs)

    backbones = [Told(net, plan) for plan in plans]
    stage = side_stage(
        own, PromptTask(RECIPE), disks(4), SIZE, SideTraining(12, rate=1e-2),
        lambda: {"val": 0.0}, backbones=backbones,
    )  # fmt: skip
    run_stage(stage, tmp_path, seed=0)
    assert set(read) == {2, 4}
    film: Any = own.side.cells[0].film
    weights, inputs = film.weight.detach().unflatten(-1, (2, -1)).abs().amax((0, 1))
    # weights at 2, 3, 4, 6, 8, 32 bits, then inputs: what never came has learned nothing
    assert [bool(w) for w in weights] == [True, False, True, False, False, False]
    assert [bool(w) for w in inputs] == [False] * 4 + [True, False]
    image = torch.zeros(1, 3, 128, 128)
    with torch.no_grad():
        at_float = own.embed(image)
        with own.beside(backbones[0]):
            assert not torch.equal(own.embed(image), at_float)
        assert torch.equal(own.embed(image), at_float)
