"""Heat maps: equal to a slow twin with hooks, hot where the score is made, and without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hwnas.adapters import attach, merge
from hwnas.data.labeled import LabeledImage
from hwnas.data.prompts import Prompts, prompts_of
from hwnas.data.transforms import postprocess, preprocess
from hwnas.errors import ConfigError, DataError
from hwnas.supernet import heat_map as module
from hwnas.supernet.cut_encoder import EMBEDDING, EmbeddingAlone, StockCut, cut_encoder
from hwnas.supernet.decoder import decode
from hwnas.supernet.evaluation import predict_masks
from hwnas.supernet.heat_map import heat_map
from hwnas.supernet.prompting import embed_boxes
from hwnas.supernet.sam_model import encode
from hwnas.supernet.semantic import semantic_head
from hwnas.supernet.side.student import side_student
from hwnas.workload.sam_plan import EncoderPlan
from tests.adapters.tiny_sam import shake, tiny_sam
from tests.supernet.adapted_models import adapted
from tests.supernet.elastic_models import calibrated, mixed_plan, random_sam
from tests.supernet.training.elastic_material import disks

SIDE = 128


def scene(side: int = 96, height: int | None = None) -> tuple[LabeledImage, Prompts]:
    (image,) = disks(1, side=side)
    if height is not None:
        image = LabeledImage("cut", image.image[:height], image.instances[:height])
    return image, prompts_of(image.instances)


def slow_map(sam: Any, image: Any, prompts: Prompts, layer: str, method: str) -> np.ndarray:
    """By hooks and `backward`, prompt by prompt, and with loops over channels and places."""
    kept: list[torch.Tensor] = []

    def keep(_: nn.Module, __: Any, out: torch.Tensor) -> None:
        out.retain_grad()
        kept.append(out)

    part = sam.image_encoder.neck if layer == EMBEDDING else sam.get_submodule(layer)
    sam.requires_grad_(True)
    handle = part.register_forward_hook(keep)
    embedding = encode(sam, preprocess(image, SIDE)[None])
    handle.remove()
    score = torch.zeros(())
    for box in prompts.boxes:
        scaled = torch.from_numpy(box) * (SIDE / max(image.shape[:2]))
        sparse = embed_boxes(sam, scaled[None, None], SIDE)
        logits = postprocess(decode(sam, embedding, sparse)[0][0, :, 0], image.shape[:2])[0]
        score = score + logits[logits > 0].sum()
    score.backward()
    (a,) = kept
    values, slopes = a.detach()[0].double().numpy(), a.grad[0].double().numpy()
    if layer != EMBEDDING:  # blocks keep channels last
        values, slopes = values.transpose(2, 0, 1), slopes.transpose(2, 0, 1)
    channels, height, width = values.shape
    drawn = np.zeros((height, width))
    for k in range(channels):
        for y in range(height):
            for x in range(width):
                alpha = slopes[k].sum() / (height * width)
                drawn[y, x] += (alpha if method == "grad-cam" else slopes[k, y, x]) * values[
                    k, y, x
                ]
    drawn = np.maximum(drawn, 0)
    full = functional.interpolate(
        torch.from_numpy(drawn)[None, None], (SIDE, SIDE), mode="bilinear", align_corners=False
    )
    rows, columns = (round(n * SIDE / max(image.shape[:2])) for n in image.shape[:2])
    full = full[..., :rows, :columns]
    size = image.shape[:2]
    return functional.interpolate(full, size, mode="bilinear", align_corners=False)[0, 0].numpy()


@pytest.mark.parametrize("method", ["grad-cam", "hires-cam"])
@pytest.mark.parametrize("layer", ["embedding", "image_encoder.blocks.1"])
def test_equal_to_hooks_and_loops(layer: str, method: Any) -> None:
    image, prompts = scene(height=60)
    slow = slow_map(tiny_sam(), image.image, prompts, layer, method)
    own = layer.removeprefix("image_encoder.")
    found = heat_map(
        cut_encoder(tiny_sam()), image.image, prompts, resolution=SIDE, layer=own, method=method
    )
    assert slow.max() > 0
    assert found.values.shape == (60, 96)
    np.testing.assert_allclose(found.values, slow, atol=2e-4 * slow.max(), rtol=1e-3)


class OnePlace:
    """A cut of which one place is read; with `silent` the layer says nothing at the others."""

    def __init__(self, inner: StockCut, place: tuple[int, int], *, silent: bool) -> None:
        self.inner, self.place, self.silent = inner, place, silent
        self.sam, self.layers, self.modules = inner.sam, inner.layers, inner.modules

    def before(self, images: torch.Tensor, layer: str) -> torch.Tensor:
        x = self.inner.before(images, layer)
        return self.only(x) if self.silent else x

    def after(self, x: torch.Tensor, layer: str) -> torch.Tensor:
        return self.inner.after(self.only(x), layer)

    def only(self, x: torch.Tensor) -> torch.Tensor:
        one = torch.zeros_like(x)
        one[..., self.place[0], self.place[1]] = 1
        return x * one


@pytest.mark.parametrize("method", ["grad-cam", "hires-cam"])
def test_a_score_of_one_place_is_hot_there_alone(method: Any) -> None:
    image, prompts = scene(side=SIDE)
    cut, hot = cut_encoder(tiny_sam()), 0
    assert isinstance(cut, StockCut)
    for place in [(y, x) for y in range(0, 8, 2) for x in range(0, 8, 2)]:
        one = OnePlace(cut, place, silent=method == "grad-cam")
        values = heat_map(one, image.image, prompts, resolution=SIDE, method=method).values
        y, x = place
        away = np.ones_like(values, dtype=bool)  # cells of 16 pixels reach half a cell further
        away[max(0, 16 * y - 8) : 16 * y + 24, max(0, 16 * x - 8) : 16 * x + 24] = False
        assert not values[away].any()
        if values.any():
            hot += 1
            top = np.unravel_index(values.argmax(), values.shape)
            assert (top[0] // 16, top[1] // 16) == place
    assert hot >= 3


def test_chunks_of_prompts_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    image, prompts = scene()
    cut = cut_encoder(tiny_sam())
    whole = heat_map(cut, image.image, prompts, resolution=SIDE, method="hires-cam")
    monkeypatch.setattr(module, "_CHUNK_BYTES", 1)
    parts = heat_map(cut, image.image, prompts, resolution=SIDE, method="hires-cam")
    assert np.array_equal(whole.masks, parts.masks)
    np.testing.assert_allclose(parts.values, whole.values, atol=1e-5 * whole.values.max())


def test_masks_may_be_given() -> None:
    image, prompts = scene()
    cut = cut_encoder(tiny_sam())
    own = heat_map(cut, image.image, prompts, resolution=SIDE)
    given = heat_map(cut, image.image, prompts, resolution=SIDE, masks=own.masks)
    assert np.array_equal(own.values, given.values)
    truths = image.instances == prompts.ids[:, None, None]
    other = heat_map(cut, image.image, prompts, resolution=SIDE, masks=truths)
    assert not np.allclose(other.values, own.values)
    none = heat_map(cut, image.image, prompts, resolution=SIDE, masks=np.zeros_like(truths))
    assert not none.values.any()


def test_attached_adapters_count_as_if_they_were_merged() -> None:
    image, prompts = scene()
    plain = heat_map(cut_encoder(tiny_sam()), image.image, prompts, resolution=SIDE)
    sam = tiny_sam()
    attached = attach(sam, "dora", rank=2, seed=0)
    shake(attached)
    maps = [heat_map(cut_encoder(sam), image.image, prompts, resolution=SIDE, layer="blocks.0")]
    tuned = heat_map(cut_encoder(sam), image.image, prompts, resolution=SIDE)
    merge(attached)
    maps += [heat_map(cut_encoder(sam), image.image, prompts, resolution=SIDE, layer="blocks.0")]
    np.testing.assert_allclose(maps[0].values, maps[1].values, atol=1e-3 * maps[1].values.max())
    assert not np.allclose(tuned.values, plain.values)


@pytest.mark.parametrize("layer", ["embedding", "blocks.0", "blocks.2"])
def test_the_largest_plan_in_floating_point_is_the_plain_model(layer: str) -> None:
    image, prompts = scene()
    net = calibrated()
    plan = EncoderPlan.uniform(net.geometry, resolution=SIDE)
    options: dict[str, Any] = {"resolution": SIDE, "layer": layer, "method": "hires-cam"}
    found = heat_map(cut_encoder(net, plan), image.image, prompts, **options)
    plain = heat_map(cut_encoder(random_sam()), image.image, prompts, **options)
    assert plain.values.max() > 0
    np.testing.assert_allclose(found.values, plain.values, atol=1e-3 * plain.values.max())


def test_a_quantized_subnet_is_seen_as_it_is_deployed() -> None:
    image, prompts = scene()
    net, plan = adapted("multiplex"), mixed_plan()
    cut = cut_encoder(net, plan)
    assert cut.layers == ("blocks.1", "blocks.2", "blocks.3", "embedding")
    found = heat_map(cut, image.image, prompts, resolution=SIDE)
    embedding = net.embed(preprocess(image.image, SIDE)[None], plan)
    masks = predict_masks(net.sam, embedding, image.size, prompts, prompt="box")
    assert (found.masks != masks.numpy()).mean() < 1e-3
    early = heat_map(cut, image.image, prompts, resolution=SIDE, layer="blocks.1")
    assert np.isfinite(early.values).all()
    assert not np.allclose(early.values, found.values)


def plain() -> tuple[nn.Module, Callable[[], Any]]:
    sam = tiny_sam()
    return sam, lambda: cut_encoder(sam)


def gated() -> tuple[nn.Module, Callable[[], Any]]:
    sam = tiny_sam()
    shake(attach(sam, "foura", rank=4, seed=0))
    return sam, lambda: cut_encoder(sam)


def noisy() -> tuple[nn.Module, Callable[[], Any]]:
    sam = tiny_sam()
    shake(attach(sam, "conv_lora", rank=2, seed=0))
    return sam, lambda: cut_encoder(sam)


def subnet() -> tuple[nn.Module, Callable[[], Any]]:
    net = adapted("multiplex")
    return net, lambda: cut_encoder(net, mixed_plan())


@pytest.mark.parametrize("make", [plain, gated, noisy, subnet])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_left_behind(make: Callable[[], Any], training: bool) -> None:
    image, prompts = scene()
    model, cut = make()
    quiet = heat_map(cut(), image.image, prompts, resolution=SIDE, layer="blocks.1").values
    model.train(training)
    first = next(p for p in model.parameters() if p.requires_grad)
    first.grad = torch.full_like(first, 3.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    wanted = [p.requires_grad for p in model.parameters()]
    hooks = [len(part._forward_hooks) for part in model.modules()]
    rng = torch.get_rng_state()
    with torch.inference_mode(not training):
        again = heat_map(cut(), image.image, prompts, resolution=SIDE, layer="blocks.1").values
    assert np.array_equal(quiet, again)  # dropout and noise are off in training mode too
    assert torch.equal(rng, torch.get_rng_state())
    assert modes == [part.training for part in model.modules()]
    assert wanted == [p.requires_grad for p in model.parameters()]
    assert hooks == [len(part._forward_hooks) for part in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert first.grad.eq(3.0).all()
    assert all(p.grad is None for p in model.parameters() if p is not first)


def test_a_supernet_in_training_is_seen_as_it_is_now() -> None:
    """Prepared weights are neither used nor left behind while they change."""
    image, prompts = scene()
    options: dict[str, Any] = {"resolution": SIDE, "method": "hires-cam"}

    def change(net: Any) -> None:
        with torch.no_grad():
            net.sam.image_encoder.blocks[1].mlp.lin1.weight.mul_(0.5)

    fresh, net = adapted("multiplex"), adapted("multiplex").train()
    change(fresh)
    first = heat_map(cut_encoder(net, mixed_plan()), image.image, prompts, **options).values
    change(net)
    second = heat_map(cut_encoder(net, mixed_plan()), image.image, prompts, **options).values
    wanted = heat_map(cut_encoder(fresh, mixed_plan()), image.image, prompts, **options).values
    assert np.array_equal(second, wanted)
    assert not np.allclose(first, second)


def test_a_side_network_has_its_embedding_alone() -> None:
    image, prompts = scene()
    cut = cut_encoder(side_student(tiny_sam(), "lst", seed=0))
    assert isinstance(cut, EmbeddingAlone)
    found = heat_map(cut, image.image, prompts, resolution=SIDE, method="hires-cam")
    assert found.values.max() > 0
    with pytest.raises(ConfigError, match="this encoder has embedding; name one"):
        heat_map(cut, image.image, prompts, resolution=SIDE, layer="blocks.1")


def test_what_cannot_be_drawn_is_said() -> None:
    image, prompts = scene()
    cut = cut_encoder(tiny_sam())
    none = Prompts(prompts.ids[:0], prompts.boxes[:0], prompts.points[:0])
    with pytest.raises(DataError, match="no prompt"):
        heat_map(cut, image.image, none, resolution=SIDE)
    with pytest.raises(DataError, match="masks are bool"):
        heat_map(cut, image.image, prompts, resolution=SIDE, masks=np.zeros((1, 2, 2), bool))
    with pytest.raises(ConfigError, match=r"blocks\.0, blocks\.1, blocks\.2, embedding"):
        heat_map(cut, image.image, prompts, resolution=SIDE, layer="blocks.7")
    with pytest.raises(ConfigError, match="grad-cam or hires-cam"):
        heat_map(cut, image.image, prompts, resolution=SIDE, method="lime")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="SamSupernet with no arch"):
        cut_encoder(calibrated())
    sam = tiny_sam()
    semantic_head(sam, ["cell"], seed=0)
    with pytest.raises(ConfigError, match="classes cell without prompts"):
        heat_map(cut_encoder(sam), image.image, prompts, resolution=SIDE)
