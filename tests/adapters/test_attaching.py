"""Adapters on the linear layers of a stock SAM."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from hwnas.adapters import (
    SAM_LINEARS,
    SAM_QKV,
    AdaptedLinear,
    LayerQuantizer,
    MatrixSlice,
    WeightAdapter,
    attach,
    detach,
    merge,
)
from hwnas.errors import ConfigError
from hwnas.supernet.sam_model import build_sam, encode
from hwnas.workload.sam_geometry import SamGeometry

GEOMETRY = SamGeometry(
    "tiny", dim=48, depth=3, heads=3, global_blocks=(2,), window=4, resolutions=(128,),
    heads_options=(3,),
)  # fmt: skip


@pytest.fixture
def sam() -> Any:
    torch.manual_seed(0)
    return build_sam(GEOMETRY)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))


def shake(attached: Any) -> None:
    """Move every trainable parameter, as training would."""
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for group in attached.trainable_groups().values():
            for _, p in group:
                p.add_(0.1 * torch.randn(p.shape, generator=rng))


@torch.no_grad()
def test_a_fresh_adapter_changes_nothing(sam: Any, images: torch.Tensor) -> None:
    before = encode(sam, images)
    attached = attach(sam, "lora", rank=4)
    assert len(attached.layers) == 4 * GEOMETRY.depth
    assert torch.equal(encode(sam, images), before)


@torch.no_grad()
def test_merged_equals_attached_and_detached_the_base(sam: Any, images: torch.Tensor) -> None:
    before, keys = encode(sam, images), list(sam.state_dict())
    attached = attach(sam, "lora", rank=4)
    shake(attached)
    own = encode(sam, images)
    assert (own - before).abs().max() > 1e-3
    with attached.disabled():
        assert torch.equal(encode(sam, images), before)
    merged = merge(copy.deepcopy(attached))
    torch.testing.assert_close(encode(merged, images), own, rtol=1e-5, atol=1e-5)
    assert list(merged.state_dict()) == keys
    bare = detach(attached)
    assert bare is sam
    assert list(bare.state_dict()) == keys
    assert torch.equal(encode(bare, images), before)
    assert not any(isinstance(m, AdaptedLinear) for m in bare.modules())


@torch.no_grad()
def test_several_adapters_add_up(sam: Any, images: torch.Tensor) -> None:
    attached = attach(sam, "lora", rank=2, name="a", targets=SAM_QKV)
    shake(attached)
    attached.add("lora", rank=3, name="b", targets=SAM_LINEARS, seed=4)
    shake(attached)
    attached.activate("a", "b")
    assert attached.active == ("a", "b")
    layer = attached.layers["image_encoder.blocks.0.attn.qkv"]
    parts = [layer.adapter(n).delta(layer.whole) for n in "ab"]
    torch.testing.assert_close(layer.effective_weight(), layer.weight + parts[0] + parts[1])
    attached.activate()
    assert torch.equal(layer.effective_weight(), layer.weight)


def test_only_adapters_get_gradients(sam: Any, images: torch.Tensor) -> None:
    attached = attach(sam, "lora", rank=4, split_qkv=True)
    shake(attached)
    encode(sam, images).square().mean().backward()
    trained = {n for n, p in sam.named_parameters() if p.grad is not None}
    assert trained == {n for group in attached.trainable_groups().values() for n, _ in group}
    assert all(
        p.grad.any() for n, p in sam.named_parameters() if n in trained and p.grad is not None
    )


def test_products_and_merges_have_the_same_gradients(images: torch.Tensor) -> None:
    base = nn.Linear(24, 36)
    x = torch.randn(5, 24, requires_grad=True)
    grads = []
    for product in (True, False):
        attached = attach(nn.Sequential(copy.deepcopy(base)), "lora", targets="0", rank=3)
        shake(attached)
        adapter = attached.layers["0"].adapter("default")
        type(adapter).has_product = product
        try:
            found = torch.autograd.grad(
                attached.model(x).square().sum(), [x, *adapter.parameters()]
            )
        finally:
            type(adapter).has_product = True
        grads.append(found)
    for one, two in zip(*grads, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": "no.such"}, "matches none of the .* linear layers"),
        ({"targets": "("}, "no regular expression"),
    ],
)
def test_wrong_targets_are_refused(sam: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        attach(sam, "lora", **options)


@torch.no_grad()
def test_a_removed_adapter_leaves_nothing(sam: Any, images: torch.Tensor) -> None:
    before = encode(sam, images)
    attached = attach(sam, "lora", rank=2, name="a", targets=SAM_QKV)
    attached.add("lora", rank=2, name="b")
    shake(attached)
    attached.remove("b")
    assert list(attached.specs) == ["a"]
    assert set(attached.layers) == set(attached.specs["a"].layers)
    assert torch.equal(encode(sam, images), before)  # b acted, a is fresh
    attached.remove("a")
    assert not any(isinstance(m, AdaptedLinear) for m in sam.modules())
    with pytest.raises(ConfigError, match="no adapter a"):
        attached.remove("a")


def test_a_name_is_given_once(sam: Any) -> None:
    attached = attach(sam, "lora", rank=2)
    with pytest.raises(ConfigError, match="attached already"):
        attached.add("lora", rank=2)
    with pytest.raises(ConfigError, match="dots"):
        attached.add("lora", rank=2, name="a.b")
    with pytest.raises(ConfigError, match="no adapter other"):
        attached.activate("other")


class _Doubles(WeightAdapter):
    """A branch that adds x itself."""

    role = "branch"

    def __init__(self, whole: MatrixSlice, *, rng: torch.Generator) -> None:
        super().__init__(whole)
        del rng
        self.strength = nn.Parameter(torch.ones(()))

    def branch(self, x: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        del part
        return self.strength * x


def test_a_branch_reads_the_quantized_input() -> None:
    rng = torch.Generator().manual_seed(0)
    base, x = nn.Linear(8, 8), torch.randn(5, 8, generator=rng)
    layer = AdaptedLinear(base, quantizer=LayerQuantizer.of(base.weight.detach(), x, 4, 2))
    layer.adapters["own"] = _Doubles(layer.whole, rng=rng)
    without = layer(x)
    layer.active = ("own",)
    added = (layer(x) - without).detach()
    assert layer.quantizer is not None
    read = layer.quantizer.quantize_input(x).detach()
    assert len(read.unique()) == 2**2
    torch.testing.assert_close(added, read)


def test_a_fresh_adapter_takes_the_mode_of_its_model(sam: Any) -> None:
    attached = attach(sam.eval(), "conv_lora", targets=SAM_QKV)
    assert not any(adapter.training for adapter in attached.adapters("default").values())
