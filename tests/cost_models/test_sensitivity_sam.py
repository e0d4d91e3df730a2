"""Errors of a small SAM supernet against slow twins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cost_models.sensitivity import Sensitivity
from cost_models.sensitivity_sam import SamErrors
from cost_models.sensitivity_taps import taps_of
from hwnas.cost import CostContext
from hwnas.data.labeled import LabeledImage
from hwnas.errors import CostError
from hwnas.quant.lsq import quantize_activation, quantize_weight
from hwnas.space import SearchSpace
from hwnas.supernet.probing.probe import BatchSize, ImageBatch, Probe, ProbedLayer
from hwnas.supernet.probing.sam_probes import SamProbes
from hwnas.supernet.probing.weight_traces import weight_traces
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import input_key, weight_key
from hwnas.testing import check_cost_model
from hwnas.workload.sam_plan import EncoderPlan
from search_spaces.sam import sam_space
from tests.supernet.elastic_models import TINY, calibrated

RESOLUTION = 64


class Kept(dict[str, Any]):
    """Records as a file would give them back."""

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        self[key] = json.loads(json.dumps(record, allow_nan=False))


def tiny_space() -> SearchSpace:
    return sam_space(TINY, bits=(2, 4, 8), attn_bits=(4, 8))


def pictures(count: int = 2) -> list[LabeledImage]:
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        pixels = np.asarray(rng.integers(0, 255, (60, 70, 3)), dtype=np.uint8)
        objects = np.zeros((60, 70), dtype=np.int32)
        objects[5:25, 8:30], objects[30:55, 35:60] = 1, 2
        found.append(LabeledImage(f"image {seed}", pixels, objects))
    return found


@pytest.fixture(scope="module")
def supernet() -> SamSupernet:
    return calibrated()


@pytest.fixture(scope="module")
def context(supernet: SamSupernet) -> CostContext:
    space = tiny_space().freeze({"resolution": RESOLUTION})
    return CostContext(space, supernet=lambda: supernet, data=pictures)


@pytest.fixture(scope="module")
def gradient(context: CostContext) -> Sensitivity:
    return Sensitivity(context, images=2)


def network_and_batch(supernet: SamSupernet) -> tuple[Probe, Any]:
    plan: Any = EncoderPlan.uniform(TINY, resolution=RESOLUTION)
    networks = SamProbes(supernet)
    probe = networks.probe(plan, weights="inherited", seed=0)
    return probe, networks.probe_batches(plan, pictures(), BatchSize(2, 1))[0]


def test_gradients_of_outputs_are_those_of_the_biases(supernet: SamSupernet) -> None:
    network, batch = network_and_batch(supernet)
    taps = taps_of(network, batch, with_gradient=True)
    module: Any = network.module
    biases = [module.blocks[1].lin1.bias, module.blocks[2].proj.bias, module.blocks[0].qkv.v.bias]
    grads = torch.autograd.grad(network.loss(batch), biases)
    own = [taps[name].grad for name in ("blocks.1.lin1", "blocks.2.proj", "blocks.0.qkv")]
    sums = [g.flatten(0, -2).sum(dim=0) for g in own if g is not None]
    sums[2] = sums[2][-len(grads[2]) :]
    for found, expected in zip(sums, grads, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-7)
    assert not any(hook for m in module.modules() for hook in m._forward_hooks)


@pytest.mark.parametrize(("linear", "w", "a"), [("lin1", 4, 8), ("proj", 2, 4), ("qkv", 8, 8)])
def test_error_of_a_layer_is_the_formula(
    supernet: SamSupernet, context: CostContext, linear: str, w: int, a: int
) -> None:
    network, batch = network_and_batch(supernet)
    name = f"blocks.2.{linear}"
    tap = taps_of(network, batch, with_gradient=True)[name]
    scales = supernet.encoder.scales
    with torch.no_grad():
        weight = quantize_weight(
            supernet.encoder.weight(name, w, a), scales[weight_key(name, w)], w
        )
        scale, offset = scales[input_key(name, a)]
        x = quantize_activation(tap.x, scale, offset, a, elements=1)
        exact = supernet.encoder.weight(name, 32, 32)
        delta = x @ weight.t() - tap.x @ exact.t()
        assert tap.grad is not None
        expected = float((tap.grad * delta).double().square().sum())
    errors = SamErrors(supernet, context.space.whole, kind="gradient", probes=1, seed=0)
    terms = {t.name: t for t in errors.terms(pictures(), resolution=RESOLUTION, images=2)}
    options = (2, 4, 8)
    found = terms[name].values[0, -1, options.index(w), options.index(a)]
    assert found == pytest.approx(expected, rel=1e-3)
    narrow = terms[name].values[0, 0, options.index(w), options.index(a)]
    share = 1 / 3 if linear in ("qkv", "proj") else 2 / 4
    assert narrow == pytest.approx(found * share)


def test_a_dropped_block_takes_away_what_it_adds(supernet: SamSupernet) -> None:
    network, batch = network_and_batch(supernet)
    taps = taps_of(network, batch, with_gradient=True)
    module: Any = network.module
    errors = SamErrors(supernet, tiny_space(), kind="gradient", probes=1, seed=0)
    for index in range(TINY.depth):
        with torch.no_grad():
            x = taps[f"blocks.{index}.in"].x
            delta = x - module.blocks[index].view()(x)
        grad = taps[f"blocks.{index}.lin2"].grad
        assert grad is not None
        expected = float((grad * delta).double().square().sum())
        assert errors._dropped(index, taps) == pytest.approx(expected, rel=1e-3)


def test_fewer_bits_heads_units_and_blocks_cost_more(gradient: Sensitivity) -> None:
    space = gradient._context.space
    best = dict(space.largest().genes)
    changes = {
        "blocks.1.lin2.w_bits": 2, "blocks.3.attn_bits": 4, "blocks.0.heads": 1,
        "blocks.2.ratio": 2,
    }  # fmt: skip
    values = gradient.evaluate([space.arch(best | {k: v}) for k, v in changes.items()])
    assert (values > gradient.evaluate([space.largest()])).all()
    smallest = gradient.evaluate([space.smallest()])[0]
    assert smallest > values.max()
    names = {table["name"] for table in gradient.matrices(RESOLUTION)}
    assert {"blocks.0.qkv", "blocks.3.attn", "blocks.1.heads", "blocks.1.ratio", "keep.1"} <= names


def test_it_keeps_the_promises_of_a_cost_model(supernet: SamSupernet) -> None:
    whole = CostContext(tiny_space(), supernet=lambda: supernet, data=pictures)
    assert check_cost_model(Sensitivity(whole, images=2), whole, n=4) == []


def test_sqnr_is_noise_over_signal(supernet: SamSupernet, context: CostContext) -> None:
    network, batch = network_and_batch(supernet)
    tap = taps_of(network, batch, with_gradient=False)["blocks.1.lin1"]
    errors = SamErrors(supernet, context.space.whole, kind="sqnr", probes=1, seed=0)
    terms = {t.name: t for t in errors.terms(pictures(), resolution=RESOLUTION, images=1)}
    with torch.no_grad():
        plan = EncoderPlan.uniform(TINY, resolution=RESOLUTION, w_bits=4, a_bits=4)
        other = supernet.encoder.view(plan).blocks[1].lin1(tap.x)
    expected = float((other - tap.y).square().mean() / tap.y.square().mean())
    assert terms["blocks.1.lin1"].values[0, -1, 1, 1] == pytest.approx(expected, rel=1e-3)
    assert terms["blocks.1.heads"].values[0, -1] == 0.0


def test_traces_of_a_quadratic_are_the_closed_ones() -> None:
    layer = nn.Linear(3, 2, bias=False)
    x, y = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(20, 2)
    layers = (ProbedLayer("blocks.0.q", layer.weight, 2),)
    network = Probe(
        layer, (3,), layers, lambda b: (layer(b.images) - b.targets).square().sum(dim=1).mean()
    )
    traces = weight_traces(
        network, ImageBatch(x, y), probes=400, rng=torch.Generator().manual_seed(1)
    )
    exact = 2 * 2 * float(x.square().sum(dim=1).mean())  # outputs times 2 |x|^2
    assert traces["blocks.0.qkv"] == pytest.approx(exact, rel=0.05)


def test_hessian_scores_weights_and_says_that_it_scores_no_more(
    supernet: SamSupernet, context: CostContext
) -> None:
    with pytest.raises(CostError, match=r"says nothing about .*a_bits|keep|attn_bits"):
        Sensitivity(context, kind="hessian", images=1).evaluate([context.space.largest()])
    space = context.space.freeze({
        "keep.*": 2, "blocks.*.*.a_bits": 8, "blocks.*.attn_bits": 8,
    })  # fmt: skip
    frozen = CostContext(space, supernet=lambda: supernet, data=pictures)
    model = Sensitivity(frozen, kind="hessian", images=1, probes=2)
    low, high = model.evaluate([space.smallest(), space.largest()])
    assert 0 <= high <= low


def test_another_supernet_is_told_what_it_lacks(context: CostContext) -> None:
    stranger = CostContext(context.space, supernet=nn.Module, data=pictures)  # type: ignore[arg-type]
    with pytest.raises(CostError, match="Module has no method error_terms"):
        Sensitivity(stranger, images=1).evaluate([context.space.largest()])


@pytest.mark.parametrize("kind", ["gradient", "hessian"])
def test_images_that_were_measured_before_are_not_measured_again(
    kind: Any, supernet: SamSupernet, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = tiny_space().freeze({
        "resolution": RESOLUTION, "keep.*": 2, "blocks.*.*.a_bits": 8, "blocks.*.attn_bits": 8,
    })  # fmt: skip
    context = CostContext(space, supernet=lambda: supernet, data=pictures)

    def made(records: Kept | None = None) -> Sensitivity:
        model = Sensitivity(context, kind=kind, images=2, probes=2)
        if records is not None:
            model.remember_in(records)
        return model

    whole, records, rows, measure = made().matrices(), Kept(), [], SamErrors._measured

    def counted(self: SamErrors, network: Any, batch: Any, plan: Any, row: int) -> Any:
        rows.append(row)
        if rows == [0, 1]:
            raise KeyboardInterrupt
        return measure(self, network, batch, plan, row)

    monkeypatch.setattr(SamErrors, "_measured", counted)
    with pytest.raises(KeyboardInterrupt):
        made(records).matrices()
    assert list(records) == [f"errors/{RESOLUTION}/0"]
    assert made(records).matrices() == whole
    assert rows == [0, 1, 1]
    assert made(records).matrices() == whole
    assert rows == [0, 1, 1]
