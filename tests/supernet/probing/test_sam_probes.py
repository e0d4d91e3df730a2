"""Probes of SAM supernets: the same function, all gradients, fresh weights, fixed batches."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hwnas.data.labeled import LabeledImage
from hwnas.errors import CostError
from hwnas.supernet.probing import BatchSize, probeable
from hwnas.supernet.probing.gradients import loss_gradients
from hwnas.supernet.probing.linear_forms import flow_gradients
from hwnas.supernet.probing.sam_probes import SamProbes
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.semantic import semantic_head
from hwnas.supernet.sensitivity import in_float
from hwnas.workload.sam import encoder_layers
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.adapted_models import adapted
from tests.supernet.elastic_models import (
    TINY,
    calibrated,
    mixed_plan,
    random_sam,
    relative_error,
    smooth_images,
)
from tests.supernet.probing.small_sam import picture, tiny_arch, tiny_space

SIZE = BatchSize(2, 2)


def _data() -> list[LabeledImage]:
    return [picture(i) for i in range(4)]


def _plans() -> dict[str, EncoderPlan]:
    return {
        "mixed": mixed_plan(),
        "small": mixed_plan(resolution=64),
        "pooled": mixed_plan(pool_stage=1),
        "narrow": mixed_plan(dim=32),
    }


@pytest.mark.parametrize("name", list(_plans()))
def test_inherited_probe_is_the_subnet_in_floating_point(name: str) -> None:
    supernet, plan = calibrated(), _plans()[name]
    probe = SamProbes(supernet).probe(plan, weights="inherited", seed=0)  # type: ignore[arg-type]
    images = torch.stack([smooth_images(seed=s)[plan.resolution // 128] for s in (0, 1)])
    expected = supernet.embed(images, in_float(plan))
    assert relative_error(probe.module(images).detach(), expected) < 1e-5
    assert probe.input_shape == tuple(images.shape[1:])


def test_adapters_are_merged_and_frozen_weights_have_gradients() -> None:
    supernet, plan = adapted("multiplex"), mixed_plan(resolution=64)
    probes = SamProbes(supernet)
    probe = probes.probe(plan, weights="inherited", seed=0)  # type: ignore[arg-type]
    images = smooth_images()[0][None]
    assert (
        relative_error(probe.module(images).detach(), supernet.embed(images, in_float(plan))) < 1e-5
    )
    frozen = {n: p.requires_grad for n, p in supernet.named_parameters()}
    assert not all(frozen.values())
    (batch, _) = probes.probe_batches(plan, _data(), SIZE)  # type: ignore[arg-type]
    gradients = loss_gradients(probe, batch, probe.layers)
    assert all(bool(gradient.any()) for gradient in gradients)
    assert {n: p.requires_grad for n, p in supernet.named_parameters()} == frozen
    assert all(p.grad is None for p in supernet.parameters())


def test_gradients_are_slices_of_those_of_training() -> None:
    supernet, plan = calibrated(), in_float(mixed_plan(resolution=64))
    probes = SamProbes(supernet)
    probe = probes.probe(plan, weights="inherited", seed=0)  # type: ignore[arg-type]
    (batch, _) = probes.probe_batches(plan, _data(), SIZE)  # type: ignore[arg-type]
    found = dict(
        zip(
            (layer.name for layer in probe.layers),
            loss_gradients(probe, batch, probe.layers),
            strict=True,
        )
    )
    task: Any = probes._task
    embedding = supernet.encoder(batch.images, plan)
    task.loss(task.predict(supernet.sam, embedding, batch), batch)["loss"].backward()
    block, own = supernet.sam.image_encoder.blocks[1], plan.blocks[0]
    inner = own.heads * TINY.head_dim
    for part, name in enumerate(("q", "k", "v")):
        rows = part * TINY.dim
        expected = block.attn.qkv.weight.grad[rows : rows + inner]
        assert relative_error(found[f"blocks.1.{name}"], expected) < 1e-3
    assert relative_error(
        found["blocks.1.lin1"], block.mlp.lin1.weight.grad[: own.mlp_hidden]
    ) < 1e-3  # fmt: skip


def test_fresh_weights_belong_to_the_seed_and_nothing_else_is_drawn() -> None:
    probes, plan = SamProbes(calibrated()), mixed_plan()
    before = torch.get_rng_state()
    first, again, other = (
        probes.probe(plan, weights="fresh", seed=seed)  # type: ignore[arg-type]
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    for a, b, c in zip(first.layers, again.layers, other.layers, strict=True):
        assert torch.equal(a.weight, b.weight)
        assert not torch.equal(a.weight, c.weight)
    lin1 = next(layer for layer in first.layers if layer.name == "blocks.3.lin1").weight
    assert float(lin1.detach().std()) == pytest.approx((2 / TINY.dim) ** 0.5, rel=0.05)
    tables = dict(first.module.named_buffers())
    assert tables
    assert not any(bool(table.any()) for table in tables.values())


def test_layers_are_named_after_the_workload_and_split_q_k_and_v() -> None:
    plan = mixed_plan()
    probe = SamProbes(calibrated()).probe(plan, weights="fresh", seed=0)  # type: ignore[arg-type]
    workload = {layer.name: layer for layer in encoder_layers(plan)}
    assert all((layer.sized_by or layer.name) in workload for layer in probe.layers)
    of_block = [layer.name for layer in probe.layers if layer.name.startswith("blocks.2.")]
    assert of_block == [f"blocks.2.{n}" for n in ("q", "k", "v", "proj", "lin1", "lin2")]
    weights = sum(x.weight_elems for n, x in workload.items()
                  if x.kind in ("linear", "conv"))  # fmt: skip
    assert sum(layer.numel for layer in probe.layers) == weights


def test_bits_do_not_make_another_network() -> None:
    space, probes = tiny_space(), SamProbes(SamSupernet(random_sam()))
    largest, smallest = space.largest(), space.smallest()
    bits = {n: space.gene(n).options[0] for n in largest.genes if n.endswith("_bits")}
    coarse = space.arch({**largest.genes, **bits})
    assert coarse.id != largest.id
    assert probes.probe_id(coarse) == probes.probe_id(largest)
    assert probes.probe_id(smallest) != probes.probe_id(largest)


def test_batches_show_the_same_pictures_and_objects_at_every_resolution() -> None:
    space, probes = tiny_space(), SamProbes(SamSupernet(random_sam()))
    data = _data()
    small, large = (
        probes.probe_batches(tiny_arch(space, resolution), data, SIZE) for resolution in (64, 128)
    )
    assert [len(batch.images) for batch in small] == [2, 2]
    for a, b in zip(small, large, strict=True):
        one: Any = a
        two: Any = b
        torch.testing.assert_close(one.boxes * 2, two.boxes)
        torch.testing.assert_close((one.points + 0.5) * 2, two.points + 0.5)
        areas = one.targets.sum((2, 3)) * 4, two.targets.sum((2, 3))
        assert float((areas[0] / areas[1] - 1).abs().max()) < 0.5
    again = SamProbes(SamSupernet(random_sam())).probe_batches(tiny_arch(space), data, SIZE)
    assert all(torch.equal(a.images, b.images) for a, b in zip(small, again, strict=True))
    other = probes.probe_batches(tiny_arch(space), data, replace(SIZE, seed=1))
    assert not torch.equal(other[0].images, small[0].images)


def test_boxes_and_targets_agree() -> None:
    probes = SamProbes(SamSupernet(random_sam()))
    batch: Any = probes.probe_batches(tiny_arch(tiny_space(), 128), _data(), SIZE)[0]
    for box, target in zip(batch.boxes.flatten(0, 1), batch.targets[:, :2].flatten(0, 1),
                           strict=True):  # fmt: skip
        ys, xs = torch.nonzero(target, as_tuple=True)
        inside = box / 2
        assert float(xs.min()) >= float(inside[0]) - 1
        assert float(ys.max()) <= float(inside[3]) + 1
    for point, target in zip(batch.points.flatten(0, 1), batch.targets[:, 2:].flatten(0, 1),
                             strict=True):  # fmt: skip
        x, y = (point[0] / 2).long().tolist()
        assert target[y, x] == 1


def test_too_few_images_are_filled_up_with_crops() -> None:
    probes = SamProbes(SamSupernet(random_sam()))
    batches = probes.probe_batches(tiny_arch(tiny_space()), [picture(0)], BatchSize(3, 2))
    images = torch.cat([batch.images for batch in batches])
    assert len(images) == 6
    assert all(not torch.equal(a, b) for i, a in enumerate(images) for b in images[:i])


def test_images_without_objects_are_refused() -> None:
    empty = replace(picture(0), instances=np.zeros((90, 120), dtype=np.int32))
    probes = SamProbes(SamSupernet(random_sam()))
    with pytest.raises(CostError, match="none of 1 images has an object"):
        probes.probe_batches(tiny_arch(tiny_space()), [empty], SIZE)


def test_flow_through_many_blocks_is_finite_and_conserved() -> None:
    deep = replace(TINY, name="deep", depth=24, global_blocks=(5, 11))
    supernet = SamSupernet(random_sam(deep))
    plan: Any = EncoderPlan.uniform(deep, resolution=64)
    probe = SamProbes(supernet).probe(plan, weights="fresh", seed=0)
    flows = {
        layer.name: float((flow * layer.weight.detach()).sum())
        for flow, layer in zip(flow_gradients(probe, probe.layers), probe.layers, strict=True)
    }
    assert all(math.isfinite(flow) for flow in flows.values())
    assert flows["neck.0"] == pytest.approx(flows["neck.2"], rel=1e-9)
    assert flows["patch_embed"] == pytest.approx(flows["neck.2"], rel=1e-9)
    assert flows["blocks.7.q"] == flows["blocks.7.k"] == 0
    assert 0 < flows["blocks.7.v"] == pytest.approx(flows["blocks.7.proj"], rel=1e-9)


def test_a_semantic_supernet_is_probed_by_its_own_loss() -> None:
    sam = random_sam()
    semantic_head(sam, ("cell", "rest"), 0)
    labels = (picture(0).instances % 3).astype(np.uint8)
    data = [
        replace(picture(i), labels=labels, classes=("cell", "rest")) for i in range(4)
    ]  # fmt: skip
    probes, arch = SamProbes(SamSupernet(sam)), tiny_arch(tiny_space())
    batches = probes.probe_batches(arch, data, SIZE)
    probe = probes.probe(arch, weights="fresh", seed=0)
    gradients = loss_gradients(probe, batches[0], probe.layers)
    assert all(bool(gradient.any()) for gradient in gradients)
    with pytest.raises(CostError, match="classes object, the model cell, rest"):
        SamProbes(SamSupernet(sam)).probe_batches(arch, _data(), SIZE)


def test_what_cannot_be_probed_is_named() -> None:
    supernet = SamSupernet(random_sam())
    assert isinstance(probeable(supernet, by="zico"), SamProbes)
    with pytest.raises(CostError, match="zico: the supernet is a object, which cannot be probed"):
        probeable(object(), by="zico")


def test_charge_of_stock_sam_is_that_of_the_specification() -> None:
    from cost_models.zico_terms import MapOfLayer, charges
    from search_spaces.sam import sam_vit_b

    space = sam_vit_b()
    maps = {"q": MapOfLayer("blocks.0.lin1", 768), "proj": MapOfLayer("blocks.2.lin1", 768)}
    found = charges(space, space.largest(), maps)
    expected = math.log(64 * 64 / math.sqrt(768))  # 5.00: the map, not the padded windows
    assert found == pytest.approx({"q": expected, "proj": expected})
