"""ZiCo: a naive twin, what must hold of the score, its correction, and its diagnosis."""

from __future__ import annotations

import json
import logging
import math
import pickle
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cost_models.zico import Zico, ZicoBc
from cost_models.zico_terms import MapOfLayer, ZicoTerms, charges, zico_terms
from hwnas.cost import CostContext
from hwnas.errors import CostError
from hwnas.supernet.probing import BatchSize, ImageBatch, Probe, probeable, weight_layers
from hwnas.supernet.probing.layer_choice import choose_layers
from hwnas.supernet.probing.sources import weight_seed
from hwnas.testing import check_cost_model
from hwnas.workflows.study_memory import Memory
from tests.supernet.probing.small_cnn import (
    CnnSupernet,
    cnn_arch,
    cnn_context,
    cnn_data,
    cnn_space,
)
from tests.supernet.probing.small_sam import tiny_arch, tiny_context

ALL = re.compile(".*")


def naive_zico(probe: Probe, batches: Sequence[Any], cap: float | None) -> float:
    """The formula by loops over a stack of all gradients."""
    stacks: list[list[np.ndarray]] = [[] for _ in probe.layers]
    probe.module.train()
    for part in probe.module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    for batch in batches:
        probe.module.zero_grad()
        probe.loss(batch).backward()
        for stack, layer in zip(stacks, probe.layers, strict=True):
            assert layer.weight.grad is not None
            stack.append(layer.weight.grad.numpy().astype(np.float64).ravel().copy())
    score = 0.0
    for stack in stacks:
        total = 0.0
        for gradients in np.stack(stack, axis=1):
            deviation = float(np.std(gradients))
            if deviation > 0:
                ratio = float(np.mean(np.abs(gradients))) / deviation
                total += ratio if cap is None else min(ratio, cap)
        score += math.log(total)
    return score


@pytest.mark.parametrize(("mode", "cap", "batches"), [("robust", 1e3, 4), ("paper", None, 2)])
def test_score_equals_the_naive_twin(mode: Any, cap: float | None, batches: int) -> None:
    context = cnn_context()
    arch = cnn_arch(context.space)
    found = Zico(context, mode=mode, batch_images=6, seeds=1).evaluate([arch])[0]
    supernet = CnnSupernet()
    probe = supernet.probe(arch, weights="fresh", seed=weight_seed(arch.id, 0, 0))
    if mode == "paper":
        supernet_probe: Any = probe
        supernet_probe.module.remove_residuals()
    fixed = supernet.probe_batches(arch, cnn_data(), BatchSize(batches, 6))
    assert found == pytest.approx(naive_zico(probe, fixed, cap), rel=1e-6)


def _score(supernet: Any = None, **options: Any) -> float:
    context = cnn_context(supernet)
    model = Zico(context, **{"batch_images": 6, "seeds": 2, **options})
    return float(model.evaluate([cnn_arch(context.space)])[0])


@pytest.mark.parametrize("mode", ["robust", "paper"])
def test_scale_of_the_loss_does_not_count(mode: Any) -> None:
    assert _score(CnnSupernet(scale=8.0), mode=mode) == pytest.approx(_score(mode=mode), rel=1e-9)
    assert _score(CnnSupernet(scale=0.3), mode=mode) == pytest.approx(_score(mode=mode), rel=1e-4)


@pytest.mark.parametrize("mode", ["robust", "paper"])
def test_order_of_batches_and_layers_does_not_count(mode: Any) -> None:
    expected = _score(mode=mode)
    assert _score(CnnSupernet(batches=lambda b: b[::-1]), mode=mode) == pytest.approx(
        expected, rel=1e-6
    )
    assert _score(CnnSupernet(reorder=lambda x: x[::-1]), mode=mode) == pytest.approx(
        expected, rel=1e-6
    )


def _steered(*gradients: list[float]) -> tuple[Probe, list[ImageBatch]]:
    """A probe whose one layer has the given gradients, one list a batch."""
    module = nn.Linear(len(gradients[0]), 1, bias=False)

    def loss(batch: ImageBatch) -> torch.Tensor:
        return (module.weight * batch.targets).sum()

    batches = [ImageBatch(torch.zeros(1), torch.tensor([g])) for g in gradients]
    return Probe(module, (len(gradients[0]),), weight_layers(module), loss), batches


def _terms(*gradients: list[float], cap: float | None = None) -> ZicoTerms:
    return zico_terms(*_steered(*gradients), ALL, cap=cap)


def test_two_batches_that_disagree_in_sign_give_ratio_one() -> None:
    terms = _terms([0.5, -3.0, 1e-6], [-2.0, 0.25, -7.0])
    assert terms.zico == pytest.approx(math.log(3), abs=1e-12)
    assert terms.log_weights == math.log(3)


def test_two_batches_that_agree_in_sign_give_more_than_one_up_to_the_cap() -> None:
    assert _terms([1.0], [3.0]).zico == pytest.approx(math.log(2))
    capped = _terms([1.0, 1.0], [1.0 + 1e-6, 3.0], cap=1e3)
    assert capped.zico == pytest.approx(math.log(1e3 + 2))
    assert capped.capped == 1


def test_weights_without_deviation_are_left_out() -> None:
    terms = _terms([1.0, 5.0], [3.0, 5.0])
    assert terms.zico == pytest.approx(math.log(2))


@pytest.mark.parametrize("mode", ["robust", "paper"])
def test_identical_batches_are_refused(mode: Any) -> None:
    same = CnnSupernet(batches=lambda batches: [batches[0]] * len(batches))
    with pytest.raises(CostError, match=r"no gradient variance over \d batches"):
        _score(same, mode=mode)


class _HalfStill(CnnSupernet):
    """The classifier's gradient is the same in every batch."""

    def probe(self, arch: Any, *, weights: Any, seed: int) -> Probe:
        whole = super().probe(arch, weights=weights, seed=seed)
        module: Any = whole.module

        def loss(batch: ImageBatch) -> torch.Tensor:
            moving: torch.Tensor = module.features(batch.images).square().mean()
            still: torch.Tensor = module.classifier.weight.sum()
            return moving * (1 + batch.images.mean()) + still

        return Probe(module, whole.input_shape, whole.layers, loss)


def test_a_layer_without_variance_is_skipped_with_a_warning_in_mode_paper(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(CostError, match=r"arch .*: layer classifier has no gradient variance"):
        _score(_HalfStill())
    context = cnn_context(_HalfStill())
    model, arch = Zico(context, mode="paper", batch_images=6), cnn_arch(context.space)
    with caplog.at_level(logging.WARNING):
        model.evaluate([arch])
    assert "layer classifier has no gradient variance" in caplog.text
    assert model.diagnose(arch).skipped == ("classifier",)
    assert np.isfinite(_score(_HalfStill(), layers=r"stem|body\..*"))


def test_doubling_channels_and_halving_maps_move_the_correction_as_they_should() -> None:
    space = cnn_space()
    large, small = (cnn_arch(space, resolution=r) for r in (16, 8))
    names = {n: 8 for n in ("stem", "body.0.conv", "body.1.conv")}
    maps = {n: MapOfLayer(n, c) for n, c in names.items()}
    wider = {n: MapOfLayer(n, 2 * c) for n, c in names.items()}
    total = sum(charges(space, large, maps).values())
    half = 0.5 * math.log(2)
    assert total - sum(charges(space, large, wider).values()) == pytest.approx(3 * half)
    assert total - sum(charges(space, small, maps).values()) == pytest.approx(3 * math.log(4))


def test_correction_is_taken_off_beta_times() -> None:
    context = cnn_context()
    arch = cnn_arch(context.space, resolution=16)
    options = {"batch_images": 6, "seeds": 2, "layers": r"stem|body\..*"}
    plain = Zico(context, **options).evaluate([arch])[0]
    penalty = 3 * math.log(16 * 16 / math.sqrt(8))
    assert ZicoBc(context, **options).evaluate([arch])[0] == pytest.approx(plain - 2 * penalty)
    corrected = ZicoBc(context, beta=0.5, **options)
    assert corrected.evaluate([arch])[0] == pytest.approx(plain - 0.5 * penalty)
    found = corrected.diagnose(arch)
    assert found.penalty == pytest.approx(penalty)
    assert found.zico == pytest.approx(plain)
    assert found.score == pytest.approx(plain - 0.5 * penalty)


def test_a_correction_that_rewards_a_layer_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = cnn_context()
    archs = [cnn_arch(context.space, depth) for depth in (1, 2)]
    with caplog.at_level(logging.WARNING):
        ZicoBc(context, batch_images=6, seeds=2).evaluate(archs)
    assert "rewards 1 layers, first classifier" in caplog.text
    assert caplog.text.count("rewards") == 1


def test_layers_that_the_workload_does_not_know_are_named() -> None:
    space = cnn_space()
    with pytest.raises(CostError, match=r"no layer head \(1 of 1 are missing\)"):
        charges(space, cnn_arch(space), {"head": MapOfLayer("head", 3)})


def test_diagnosis_takes_the_size_out() -> None:
    context = cnn_context()
    arch = cnn_arch(context.space)
    model = Zico(context, batch_images=6, seeds=2)
    found = model.diagnose(arch)
    sizes = [3 * 9 * 8, 8 * 9 * 8, 8 * 9 * 8, 8 * 3]
    assert found.log_weights == pytest.approx(sum(math.log(size) for size in sizes))
    assert found.mean_ratio == pytest.approx(found.score - found.log_weights)
    assert sum(found.layers.values()) == pytest.approx(found.zico)
    assert list(found.layers) == ["stem", "body.0.conv", "body.1.conv", "classifier"]
    assert 0 <= found.capped < 0.05
    batch = model.estimate([arch])
    assert batch.hi is not None
    assert found.standard_error == pytest.approx(batch.hi[0] - batch.value[0])
    assert batch.fidelity == "proxy"


def test_seeds_give_an_interval_and_inherited_weights_none() -> None:
    context = cnn_context()
    archs = [cnn_arch(context.space, depth=d) for d in (1, 3)]
    assert Zico(context, batch_images=6, seeds=3).estimate(archs).lo is not None
    inherited = Zico(context, batch_images=6, weights="inherited").estimate(archs)
    assert inherited.lo is None
    again = Zico(cnn_context(seed=0), batch_images=6, weights="inherited").evaluate(archs)
    assert np.array_equal(inherited.value, again)


def test_same_seed_same_bits_and_another_seed_other_ones() -> None:
    context = cnn_context()
    archs = [cnn_arch(context.space, depth=d, width=w) for d in (1, 2) for w in (4, 8)]
    model = Zico(context, batch_images=6, seeds=2)
    batch = model.evaluate(archs)
    singles = [Zico(cnn_context(), batch_images=6, seeds=2).evaluate([a])[0] for a in archs]
    assert np.array_equal(batch, singles)
    assert np.array_equal(batch, model.evaluate(archs))
    other = Zico(cnn_context(seed=1), batch_images=6, seeds=2).evaluate(archs)
    assert not np.isin(other, batch).any()


def test_a_network_is_scored_once_and_a_pickled_model_scores_alike() -> None:
    supernet = CnnSupernet()
    context = cnn_context(supernet)
    model, arch = Zico(context, batch_images=6, seeds=2), cnn_arch(context.space)
    model.evaluate([arch, arch])
    model.evaluate([arch])
    assert supernet.probes == 2
    plain = Zico(CostContext(cnn_space(), data=cnn_data), batch_images=6)
    assert pickle.loads(pickle.dumps(plain)).note == plain.note


def _kept(records: Memory) -> Memory:
    """The same after a way through a file."""
    return Memory({key: json.loads(json.dumps(one)) for key, one in records.items()})


def test_gradients_are_remembered_and_serve_zico_bc_too() -> None:
    records = Memory()
    context = cnn_context()
    archs = [cnn_arch(context.space, depth=d) for d in (1, 3)]
    first = Zico(context, batch_images=6, seeds=2)
    first.remember_in(records)
    score = first.evaluate(archs)
    assert len(records) == 4  # two networks, two draws

    again = Zico(cnn_context(), batch_images=6, seeds=2)
    corrected = ZicoBc(cnn_context(), batch_images=6, seeds=2)
    expected = ZicoBc(cnn_context(), batch_images=6, seeds=2).evaluate(archs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cost_models.zico.zico_terms", None)  # calling it would fail
        for model in (again, corrected):
            model.remember_in(_kept(records))
        assert np.array_equal(again.evaluate(archs), score)
        assert np.array_equal(corrected.evaluate(archs), expected)
    assert not np.array_equal(score, expected)


@pytest.mark.parametrize(
    "options", [{"batches": 5}, {"batch_images": 4}, {"weights": "inherited"}, {"layers": ".*1.*"}]
)
def test_gradients_of_other_options_are_not_taken(options: dict[str, Any]) -> None:
    records = Memory()
    arch = cnn_arch(cnn_space())
    for changes in ({}, options):
        model = Zico(cnn_context(), **{"batch_images": 6, "seeds": 1, **changes})
        model.remember_in(records)
        model.evaluate([arch])
    assert len(records) == 2


def test_options_that_make_no_sense_are_all_named() -> None:
    with pytest.raises(CostError) as error:
        Zico(cnn_context(), mode="fast", weights="old", beta=-1, batch_images=0, layers="(")  # type: ignore[arg-type]
    for words in ("mode is 'fast'", "weights is 'old'", "beta is -1", "batch_images is 0",
                  "layers is '('"):  # fmt: skip
        assert words in str(error.value)
    with pytest.raises(CostError, match="batches is 3, expected 4 or more in mode robust"):
        Zico(cnn_context(), batches=3)
    with pytest.raises(CostError, match="inherited weights are not drawn"):
        Zico(cnn_context(), weights="inherited", seeds=3)


def test_missing_supernet_and_layers_that_match_nothing_are_named() -> None:
    context = CostContext(cnn_space(), data=cnn_data)
    with pytest.raises(CostError, match="zico_bc needs a supernet"):
        ZicoBc(context).evaluate([cnn_arch(context.space)])
    probe = probeable(CnnSupernet(), by="zico").probe(
        cnn_arch(context.space), weights="fresh", seed=0
    )
    with pytest.raises(CostError, match="the network has 4: stem, body"):
        choose_layers(probe, re.compile("blocks.*"))
    with pytest.raises(CostError, match=r"zico: arch \w+: layers is 'x'"):
        _score(layers="x")


def test_bits_of_a_sam_subnet_do_not_count_and_depth_does() -> None:
    context = tiny_context()
    space = context.space
    model = ZicoBc(context, batch_images=1, seeds=1)
    largest = tiny_arch(space)
    bits = {n: 4 for n in largest.genes if n.endswith("_bits")}
    coarse, shallow = tiny_arch(space, **bits), space.arch(
        {**space.smallest().genes, "resolution": 64}
    )  # fmt: skip
    a, b, c = model.evaluate([largest, coarse, shallow])
    assert a == b != c
    parts = model.breakdown(largest)
    assert sum(parts.values()) == pytest.approx(a)
    assert set(parts) == {"patch_embed", "neck", *(f"blocks.{i}" for i in range(4))}


@pytest.mark.parametrize("weights", ["fresh", "inherited"])
def test_contract_on_a_cnn_and_on_sam(weights: Any) -> None:
    cnn = cnn_context()
    assert check_cost_model(Zico(cnn, batch_images=6, weights=weights), cnn, n=4) == []
    sam = tiny_context()
    model = ZicoBc(sam, batch_images=1, weights=weights)
    assert check_cost_model(model, sam, n=1) == []


def test_images_of_a_search_may_come_from_inside_inference_mode() -> None:
    context = tiny_context()
    expected = Zico(context, batch_images=1, seeds=1).evaluate([tiny_arch(context.space)])
    with torch.inference_mode():
        found = Zico(tiny_context(), batch_images=1, seeds=1).evaluate([tiny_arch(context.space)])
    assert np.array_equal(found, expected)
