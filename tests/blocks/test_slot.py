"""Modules of slots against the supernet that they are sliced from."""

import copy
from dataclasses import replace

import pytest
import torch

from hwnas.blocks.building import load_slot, save_slot
from hwnas.blocks.distilling import Distillation, Material, distill, rounded
from hwnas.blocks.layer_counts import slot_layers
from hwnas.blocks.layers import BlockConv, BlockLinear
from hwnas.blocks.noise import ChannelScale, errors_of_images
from hwnas.blocks.options import all_options, heads_of, option_of, teacher_option
from hwnas.blocks.slicing import start_from_teacher
from hwnas.blocks.slot import make_slot
from hwnas.errors import CheckpointError, TrainingError
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.elastic_models import TINY, random_sam

SIDE = 64
GRID = TINY.grid(SIDE)


@pytest.fixture(scope="module")
def supernet():
    return SamSupernet(random_sam())


@pytest.fixture(scope="module")
def maps():
    return torch.randn(4, GRID, GRID, TINY.dim, generator=torch.Generator().manual_seed(0))


def started(supernet, name, places=(2, 3)):
    option = option_of(name)
    slot = make_slot(TINY, option, places[-option.depth :], GRID)
    start_from_teacher(slot, supernet, SIDE, torch.Generator().manual_seed(0))
    return slot


@torch.no_grad()
def through(supernet, maps, plan, places):
    view = supernet.encoder.view(plan)
    for place in places:
        maps = view.blocks[place](maps)
    return maps


def test_the_teachers_option_is_the_teacher(supernet, maps):
    slot = started(supernet, teacher_option(TINY).name)
    expected = through(supernet, maps, EncoderPlan.uniform(TINY, resolution=SIDE), (2, 3))
    assert torch.allclose(slot(maps), expected, atol=1e-4)


@pytest.mark.parametrize("ratio", [2, 3])
def test_narrow_options_start_as_slices_of_it(supernet, maps, ratio):
    option = option_of(f"vit-d1-r{ratio}-fp16")
    slot = started(supernet, option.name)
    whole = EncoderPlan.uniform(TINY, resolution=SIDE)
    heads, hidden = heads_of(TINY, option), ratio * TINY.dim
    plan = replace(
        whole, blocks=tuple(replace(b, heads=heads, mlp_hidden=hidden) for b in whole.blocks)
    )
    assert torch.allclose(slot(maps), through(supernet, maps, plan, (3,)), atol=1e-4)


def test_windows_alone_see_no_other_window(supernet, maps):
    """The second block attends globally in the teacher, and in windows of 3 here."""
    slot = started(supernet, "window-d1-r4-fp16")
    changed = maps.clone()
    changed[:, 3:, 3:] += maps[:, :1, :1].flip(-1)  # a constant would not pass the norm
    with torch.no_grad():
        difference = (slot(changed) - slot(maps)).abs().amax(dim=(0, 3))
        globally = started(supernet, "vit-d1-r4-fp16")
        elsewhere = (globally(changed) - globally(maps)).abs().amax(dim=(0, 3))
    assert not difference[:3, :3].any()
    assert elsewhere[:3, :3].all()


def test_convolutions_reach_two_cells(supernet, maps):
    slot = started(supernet, "conv-d1-r4-fp16")
    changed = maps.clone()
    changed[:, 0, 0] += maps[:, 1, 1].flip(-1)
    with torch.no_grad():
        difference = (slot(changed) - slot(maps)).abs().amax(dim=(0, 3))
    assert difference[:3, :3].all()
    assert not difference[3].any()


@pytest.mark.parametrize("name", ["vit-d2-r4", "window-d1-r3", "conv-d2-r2"])
def test_fewer_bits_lose_more(supernet, maps, name):
    floating = started(supernet, f"{name}-fp16")
    losses = []
    with torch.no_grad():
        expected = floating(maps)
        scale = ChannelScale.of(expected, torch.ones(maps.shape[:3], dtype=torch.bool), name="t")
        for bits in ("w8a8", "w4a8", "w4a4"):
            option = option_of(f"{name}-{bits}")
            slot = make_slot(TINY, option, floating.places, GRID)
            slot.set_ranges(floating, maps)
            valid = torch.ones(maps.shape[:3], dtype=torch.bool)
            losses.append(float(errors_of_images(slot(maps), expected, valid, scale).mean()))
    assert 0 < losses[0] < 0.02
    assert losses == sorted(losses)


def test_every_weight_of_a_quantized_block_gets_a_gradient(supernet, maps):
    for name in ("vit-d1-r2", "conv-d1-r2"):
        floating = started(supernet, f"{name}-fp16")
        slot = make_slot(TINY, option_of(f"{name}-w4a4"), floating.places, GRID)
        slot.set_ranges(floating, maps)
        slot(maps).square().mean().backward()
        still = [n for n, p in slot.named_parameters() if p.requires_grad and p.grad is None]
        assert not still


def test_layers_have_the_weights_of_the_module(supernet):
    for option in all_options(TINY)[3::4]:
        places = (2, 3)[-option.depth :]
        slot = make_slot(TINY, option, places, GRID)
        layers = slot_layers(TINY, 1, option, places, SIDE)
        counted = sum(x.weight_elems for x in layers if x.kind in {"linear", "conv", "dwconv"})
        parts = [m for m in slot.modules() if isinstance(m, BlockLinear | BlockConv)]
        own = sum(part.weight.numel() for part in parts)
        assert counted == own, option.name
        assert len({x.name for x in layers}) == len(layers)


def test_training_brings_a_block_nearer_to_the_teacher(supernet, maps):
    targets = through(supernet, maps, EncoderPlan.uniform(TINY, resolution=SIDE), (2, 3))
    valid = torch.ones(maps.shape[:3], dtype=torch.bool)
    material = Material(maps, targets, valid, ChannelScale.of(targets, valid, name="t"))

    def loss(slot):
        with torch.no_grad():
            return float(errors_of_images(slot(maps), targets, valid, material.scale).mean())

    slot = started(supernet, "conv-d1-r2-fp16")
    twin, before = copy.deepcopy(slot), loss(slot)
    how = Distillation(batch=2, steps=40)
    for own in (slot, twin):
        distill(own, material, how, finish=False, rng=torch.Generator().manual_seed(1))
    assert loss(slot) < 0.8 * before
    same = zip(slot.parameters(), twin.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same), "the same seed gives the same weights"


def test_a_loss_that_is_not_finite_stops_training(supernet, maps):
    slot = started(supernet, "conv-d1-r2-fp16")
    valid = torch.ones(maps.shape[:3], dtype=torch.bool)
    scale = ChannelScale.of(maps, valid, name="t")
    material = Material(maps * torch.nan, maps, valid, scale)
    with pytest.raises(TrainingError, match="conv-d1-r2-fp16: the loss is nan"):
        distill(slot, material, Distillation(batch=2), finish=False, rng=torch.Generator())


def test_files_give_back_the_rounded_block(supernet, maps, tmp_path):
    slot = started(supernet, "vit-d2-r3-fp16", tuple(sorted(supernet.drop_order[1])))
    save_slot(tmp_path, 1, slot.option.name, rounded(slot))
    read = load_slot(tmp_path, supernet, SIDE, 1, slot.option)
    with torch.no_grad():
        assert torch.equal(read(maps), slot(maps))
    with pytest.raises(CheckpointError, match="build the library"):
        load_slot(tmp_path, supernet, SIDE, 0, slot.option)
