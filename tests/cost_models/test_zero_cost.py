"""Zero-cost proxies: naive twins, closed forms, refusals, and the contract."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from cost_models.zero_cost import Dss, GradNorm, Snip, Synflow
from cost_models.zero_cost_responses import Naswot, Zen
from hwnas.cost import CostContext
from hwnas.errors import CostError
from hwnas.supernet.probing import BatchSize, Probe
from hwnas.supernet.probing.sam_probes import SamProbes
from hwnas.supernet.probing.sources import weight_seed
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.testing import check_cost_model
from tests.supernet.elastic_models import random_sam
from tests.supernet.probing.small_cnn import (
    CnnSupernet,
    cnn_arch,
    cnn_context,
    cnn_data,
    cnn_space,
)
from tests.supernet.probing.small_sam import tiny_arch, tiny_context

ON_CNN = (GradNorm, Snip, Synflow, Naswot, Zen)
IMAGES = {GradNorm: 6, Snip: 6, Naswot: 6, Zen: 2}


def _options(model: Any) -> dict[str, int]:
    return {"batch_images": IMAGES[model]} if model in IMAGES else {}


def _twin(context: CostContext, arch: Any) -> Probe:
    """The probe that the first draw of an arch uses."""
    supernet: Any = context.require("supernet", by="test")
    probe: Probe = supernet.probe(arch, weights="fresh", seed=weight_seed(arch.id, 0, 0))
    for part in probe.module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    probe.module.train()
    return probe


@pytest.mark.parametrize(
    ("model", "of"),
    [
        (GradNorm, lambda g, w: float(np.sqrt((g**2).sum()))),
        (Snip, lambda g, w: float(np.abs(g * w).sum())),
    ],
)
def test_sums_of_gradients_equal_the_naive_twin(
    model: Any, of: Callable[[np.ndarray, np.ndarray], float]
) -> None:
    context = cnn_context()
    arch = cnn_arch(context.space)
    probe = _twin(context, arch)
    (batch,) = CnnSupernet().probe_batches(arch, cnn_data(), BatchSize(1, 6))
    probe.loss(batch).backward()
    expected = sum(
        of(layer.weight.grad.numpy(), layer.weight.detach().numpy())  # type: ignore[union-attr]
        for layer in probe.layers
    )
    found = model(context, seeds=1, batch_images=6).evaluate([arch])[0]
    assert found == pytest.approx(expected, rel=1e-5)


def test_synflow_equals_a_forward_pass_of_absolute_weights() -> None:
    context = cnn_context()
    arch = cnn_arch(context.space, depth=1)
    module: Any = _twin(context, arch).module.double()
    for parameter in module.parameters():
        parameter.data.abs_()
    conv = torch.nn.functional.conv2d
    x = conv(torch.ones(1, 3, 8, 8).double(), module.stem.weight, padding=1)
    x = x + conv(x, module.body[0].conv.weight, padding=1)
    flow = module.classifier.weight @ x.mean((2, 3))[0]
    flow.sum().backward()
    weights = (module.stem.weight, module.body[0].conv.weight, module.classifier.weight)
    expected = math.log(sum(float((w * w.grad).detach().abs().sum()) for w in weights))
    assert Synflow(context, seeds=1).evaluate([arch])[0] == pytest.approx(expected, rel=1e-9)


def test_dss_equals_nuclear_norms_of_attention_and_saliencies_of_the_rest() -> None:
    context = tiny_context()
    arch = tiny_arch(context.space)
    probes = SamProbes(SamSupernet(random_sam()))
    probe = probes.probe(
        arch, weights="fresh", seed=weight_seed(probes.probe_id(arch), 0, 0)
    )  # fmt: skip
    module: Any = probe.module.double()
    module.average_attention()
    for parameter in module.parameters():
        parameter.data.abs_()
    for norm in (m for m in module.modules() if isinstance(m, torch.nn.LayerNorm)):
        norm.forward = lambda x: x
    module(torch.ones(1, 3, 64, 64).double()).sum().backward()
    total = 0.0
    for layer in probe.layers[1:]:
        if layer.name.rpartition(".")[2] in ("q", "k"):  # they have no part in an average
            assert layer.weight.grad is None or not layer.weight.grad.any()
            continue
        weight, gradient = (
            t.detach().flatten(1).numpy()
            for t in (layer.weight, layer.weight.grad)  # type: ignore[union-attr]
        )
        if layer.name.rpartition(".")[2] in ("v", "proj"):
            total += float(
                np.linalg.norm(weight, "nuc") * np.linalg.norm(gradient, "nuc")
            )  # fmt: skip
        else:
            total += float(np.abs(weight * gradient).sum())
    found = Dss(context, seeds=1).evaluate([arch])[0]
    assert found == pytest.approx(math.log(total), rel=1e-6)


def test_dss_is_for_transformers() -> None:
    context = cnn_context()
    with pytest.raises(CostError, match=r"dss: arch .* no attention layers"):
        Dss(context).evaluate([cnn_arch(context.space)])


def test_naswot_is_the_log_determinant_and_refuses_equal_images() -> None:
    context = cnn_context()
    arch = cnn_arch(context.space, depth=1)
    module: Any = _twin(context, arch).module
    codes: list[torch.Tensor] = []
    for act in (module.act, module.body[0].act):
        act.register_forward_pre_hook(lambda _m, x: codes.append((x[0] > 0).flatten(1).double()))
    (batch,) = CnnSupernet().probe_batches(arch, cnn_data(), BatchSize(1, 6))
    module(batch.images)
    x = torch.cat(codes, dim=1).numpy()
    expected = np.linalg.slogdet(x @ x.T + (1 - x) @ (1 - x).T)[1]
    found = Naswot(context, seeds=1, batch_images=6).evaluate([arch])[0]
    assert found == pytest.approx(float(expected), rel=1e-9)
    images, targets = cnn_data()
    same = CostContext(
        cnn_space(), supernet=CnnSupernet, data=lambda: (images[:1].expand(64, -1, -1, -1), targets)
    )
    with pytest.raises(CostError, match=r"switch all .* units alike"):
        Naswot(same, seeds=1, batch_images=6).evaluate([arch])


def test_zen_grows_with_depth_and_needs_no_data() -> None:
    context = CostContext(cnn_space(), supernet=CnnSupernet)
    archs = [cnn_arch(context.space, depth=d, resolution=16) for d in (1, 2, 3)]
    found = Zen(context, batch_images=4).evaluate(archs)
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("model", [Synflow, Dss, Zen, GradNorm, Snip, Naswot])
def test_larger_sam_subnets_have_finite_scores_that_differ(model: Any) -> None:
    context = tiny_context()
    space = context.space
    archs = [tiny_arch(space), space.arch({**space.smallest().genes, "resolution": 64})]
    options = {"batch_images": 2} if model in IMAGES else {}
    estimate = model(context, seeds=2, **options).estimate(archs)
    assert np.isfinite(estimate.value).all()
    assert estimate.value[0] != estimate.value[1]
    assert estimate.lo is not None
    assert estimate.fidelity == "proxy"
    if model in (Synflow, Dss):
        assert estimate.value[0] > estimate.value[1]


@pytest.mark.parametrize("model", ON_CNN)
def test_contract_on_a_cnn(model: Any) -> None:
    context = cnn_context()
    assert check_cost_model(model(context, seeds=2, **_options(model)), context, n=4) == []


@pytest.mark.parametrize("model", [Snip, Dss, Naswot, Zen])
def test_contract_on_sam(model: Any) -> None:
    context = tiny_context()
    options = {"batch_images": 2} if model in IMAGES else {}
    assert check_cost_model(model(context, seeds=1, **options), context, n=1) == []


def test_options_that_make_no_sense_are_named() -> None:
    with pytest.raises(CostError, match=r"snip: weights is 'old'.*seeds is 0.*batch_images is 0"):
        Snip(cnn_context(), weights="old", seeds=0, batch_images=0)  # type: ignore[arg-type]
    with pytest.raises(CostError, match="naswot: batch_images is 1, expected 2"):
        Naswot(cnn_context(), batch_images=1)
    with pytest.raises(CostError, match="zen: batch_images is 0"):
        Zen(cnn_context(), batch_images=0)
    with pytest.raises(CostError, match="inherited weights are not drawn"):
        Synflow(cnn_context(), weights="inherited", seeds=2)
