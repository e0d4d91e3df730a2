"""Gradients of a quantized encoder: against plain autograd, in floating point, of frozen rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hwnas.adapters import SAM_LINEARS, AdaptedLinear, LayerQuantizer
from hwnas.adapters.attaching import matching_linears
from hwnas.config.finetuning import FinetuneConfig, QuantizerConfig
from hwnas.errors import ConfigError
from hwnas.supernet.propagation import (
    PROJECTIONS,
    PropagationProbe,
    Signals,
    compare,
    probing_student,
    projections_of,
)
from hwnas.supernet.propagation.comparing import decibels
from hwnas.supernet.sam_model import encode
from hwnas.supernet.training.batches import Batch
from hwnas.supernet.training.finetuning.freezing import frozen_rows
from hwnas.supernet.training.finetuning.objective import Objective, Teacher
from hwnas.supernet.training.finetuning.quantizing import add_quantizers
from hwnas.supernet.training.stage import Share
from tests.quant.plain_quantizers import plain_activation, plain_weight
from tests.supernet.elastic_models import TINY, random_sam, relative_error
from tests.supernet.training.elastic_material import disks

SIDE, BITS = 64, (3, 4)
RECIPE = FinetuneConfig.model_validate(
    {"adapter": {"kind": "full"}, "distil": {"mask": 0.7, "embedding": 0.3}, "task": 1.3,
     "images": 2, "prompts": 2}
)  # fmt: skip


class PlainLinear(nn.Module):
    """A layer under fake quantization as autograd alone differentiates it."""

    def __init__(self, base: nn.Linear, quantizer: LayerQuantizer) -> None:
        super().__init__()
        self.weight, self.bias, self.quantizer = base.weight, base.bias, quantizer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = self.quantizer
        x = plain_activation(x, own.range[0], own.range[1], own.a_bits, x[0].numel())
        y = functional.linear(x, plain_weight(self.weight, own.scale, own.w_bits), self.bias)
        y.retain_grad()
        self.output = y
        return y


class PlainStudent:
    """What an objective needs of a model."""

    adapters: Sequence[Any] = ()

    def __init__(self, sam: Any) -> None:
        self.sam = self.module = sam

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return encode(self.sam, images)


def teacher() -> Teacher:
    sam = random_sam(seed=5).requires_grad_(False)
    return Teacher(sam, lambda images: encode(sam, images))


def fresh_probe(*, taught: bool = True) -> PropagationProbe:
    student = probing_student(random_sam(), RECIPE)
    return PropagationProbe(student, RECIPE, SIDE, teacher=teacher() if taught else None)


def views(count: int = 2) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    return [torch.randn(3, SIDE, SIDE, generator=rng) for _ in range(count)]


def batch_of(probe: PropagationProbe, seed: int = 0) -> Batch:
    return probe.objective.batch(disks(4), np.random.default_rng(seed), Share())


def plain_gradients(
    batch: Batch, grids: dict[str, LayerQuantizer]
) -> tuple[dict[str, float], dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]]]:
    """Losses, and by loss and layer the gradients of weight and output, one backward each."""
    values, found = {}, {}
    for name, key, weight in (("task", "task_loss", RECIPE.task), ("kd_qat", "loss", 1.0)):
        sam, layers = random_sam(), {}
        for path, layer in matching_linears(sam, SAM_LINEARS).items():
            layers[path] = PlainLinear(layer, grids[path])
            parent, _, child = path.rpartition(".")
            setattr(sam.get_submodule(parent), child, layers[path])
        objective = Objective(PlainStudent(sam), RECIPE, SIDE, teacher=teacher())
        loss = weight * objective.losses(batch)[key]
        loss.backward()
        values[name] = float(loss.detach())
        found[name] = {p: (own.weight.grad, own.output.grad) for p, own in layers.items()}
    return values, found


def test_gradients_are_those_of_plain_autograd() -> None:
    probe = fresh_probe()
    grids = probe.calibrate(views(), [BITS], seed=0)[BITS]
    batch = batch_of(probe)
    probe.use(grids)
    signals = probe.signals(batch)
    rows = compare(signals, signals, probe.projections, probe.weight_noise())
    losses, plain = plain_gradients(batch, grids)
    assert signals.losses == pytest.approx(losses, rel=1e-5)
    assert losses["kd_qat"] > losses["task"] > 0
    for loss, layers in plain.items():
        for one, figures in zip(probe.projections, rows, strict=True):
            weight, output = layers[one.path]
            norms = weight[one.rows].norm(), output[..., one.rows].norm()
            assert min(norms) > 0
            assert figures[f"{loss}.weight.norm"] == pytest.approx(float(norms[0]), rel=1e-4)
            assert figures[f"{loss}.output.norm"] == pytest.approx(float(norms[1]), rel=1e-4)
            # a weight on the edge of the grid may fall to either side by the last digit
            found = signals.weight_gradients[loss][one.path]
            assert relative_error(found, weight) < 0.02
            assert ((found - weight).abs() > 1e-5).sum() <= 2


def test_quantizers_are_those_of_a_fine_tuning() -> None:
    probe = fresh_probe()
    found = probe.calibrate(views(), [BITS, (8, 8)], seed=7)
    student = probing_student(random_sam(), RECIPE)
    add_quantizers(student, views(), QuantizerConfig(w_bits=BITS[0], a_bits=BITS[1]), seed=7)
    for path, layer in student.layers.items():
        assert layer.quantizer is not None
        assert torch.equal(found[BITS][path].scale, layer.quantizer.scale)
        assert torch.equal(found[BITS][path].range, layer.quantizer.range)
        assert (found[8, 8][path].w_bits, found[8, 8][path].a_bits) == (8, 8)


def test_floating_point_is_its_own_reference_to_the_last_digit() -> None:
    probe = fresh_probe()
    batch = batch_of(probe)
    probe.use(None)
    reference, again = probe.signals(batch), probe.signals(batch)
    for figures in compare(again, reference, probe.projections, probe.weight_noise()):
        for name in ("task.weight", "task.output", "kd_qat.weight", "kd_qat.output"):
            assert (figures[f"{name}.ratio"], figures[f"{name}.cosine"]) == (1.0, 1.0)
            assert figures[f"{name}.error"] == 0.0
        assert figures["activation_ratio"] == 1.0
        assert [figures[f"{n}_sqnr"] for n in ("weight", "input", "output")] == [None] * 3
    probe.use(probe.calibrate(views(), [BITS], seed=0)[BITS])
    rows = compare(probe.signals(batch), reference, probe.projections, probe.weight_noise())
    assert all(row["kd_qat.weight.error"] > 0 for row in rows)
    assert all(row["kd_qat.weight.cosine"] < 1 for row in rows)


def test_the_model_is_left_as_it_was() -> None:
    probe = fresh_probe(taught=False)
    before = {name: value.clone() for name, value in probe.student.state_dict().items()}
    signals = probe.signals(batch_of(probe))
    assert list(signals.losses) == ["task"]
    assert all(torch.equal(v, before[n]) for n, v in probe.student.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in probe.student.parameters())


def test_frozen_rows_get_no_gradient() -> None:
    probe = fresh_probe()
    probe.use(probe.calibrate(views(), [BITS], seed=0)[BITS])
    batch = batch_of(probe)
    for path, layer in probe.student.layers.items():
        rows = frozen_rows(path, layer, "ov")
        if rows is not None:
            layer.freeze_rows(rows)
    signals = probe.signals(batch)
    for one in probe.projections:
        gradient = signals.weight_gradients["kd_qat"][one.path][one.rows]
        assert bool(gradient.any()) == (one.name not in ("o", "v"))
        assert signals.output_gradients["kd_qat"][one.path][..., one.rows].any()
    rows = compare(signals, signals, probe.projections, probe.weight_noise())
    told = {one.name: row for one, row in zip(probe.projections, rows, strict=True)}
    assert (told["o"]["task.weight.norm"], told["o"]["task.weight.ratio"]) == (0.0, None)


def test_noise_of_weights_and_inputs_is_that_of_the_quantizers() -> None:
    probe = fresh_probe(taught=False)
    grids = probe.calibrate(views(), [BITS], seed=0)[BITS]
    probe.use(grids)
    signals = probe.signals(batch_of(probe))
    for one, found in zip(probe.projections, probe.weight_noise(), strict=True):
        layer = probe.student.layers[one.path]
        weight = layer.weight.detach()
        noise = plain_weight(weight, grids[one.path].scale, BITS[0]).detach() - weight
        ratio = weight[one.rows].norm() / noise[one.rows].norm()
        assert found == pytest.approx(20 * math.log10(float(ratio)), rel=1e-4)
        signal, taken = signals.input_energy[one.path]
        assert 0 < taken < signal


def test_figures_of_gradients_that_are_known() -> None:
    layer = AdaptedLinear(nn.Linear(4, 6), parts=3)
    projections = projections_of({"blocks.0.attn.qkv": layer})
    reference, found = Signals(losses={"task": 1.0}), Signals(losses={"task": 1.0})
    one, path = torch.zeros(6, 4), "blocks.0.attn.qkv"
    one[:, 0] = 3.0
    moved = one.clone()
    moved[0:2] *= 2  # q: twice as long; k: as it was; v: turned by a right angle, 4/3 as long
    moved[4:6] = torch.tensor([0.0, 4.0, 0.0, 0.0])
    for signals, gradient in ((reference, one), (found, moved)):
        signals.weight_gradients["task"] = {path: gradient}
        signals.output_gradients["task"] = {path: gradient.t()}
        signals.outputs[path] = gradient.t()
    q, k, v = compare(found, reference, projections, [10.0, 20.0, None])
    for kind in ("weight", "output"):
        figures = [
            [row[f"task.{kind}.{n}"] for n in ("ratio", "cosine", "error")] for row in (q, k, v)
        ]
        assert figures[0] == pytest.approx([2, 1, 1])
        assert figures[1] == [1, 1, 0]
        assert figures[2] == pytest.approx([4 / 3, 0, 5 / 3])
    assert q["output_sqnr"] == pytest.approx(0.0)
    assert (q["activation_ratio"], k["output_sqnr"], v["weight_sqnr"]) == (2.0, None, None)
    assert decibels(100.0, 1.0) == pytest.approx(20.0)


def test_projections_are_those_of_sam_blocks_alone() -> None:
    found = projections_of(fresh_probe(taught=False).student.layers)
    assert [(one.block, one.name) for one in found] == [
        (block, name) for block in range(TINY.depth) for name in PROJECTIONS
    ]
    assert (found[2].rows, found[3].rows) == (slice(96, 144), slice(0, 48))
    with pytest.raises(ConfigError, match=r"blocks\.0\.attn\.other: expected qkv"):
        projections_of({"blocks.0.attn.other": AdaptedLinear(nn.Linear(4, 4))})
