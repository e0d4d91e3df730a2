"""What every kind of adapter keeps on a stock SAM, in floating point and at 4 bits.

A new kind is one line of `KINDS`; its own file tests what is its own.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from hwnas.adapters import (
    SAM_LINEARS,
    SAM_QKV,
    AdaptedLinear,
    Attached,
    attach,
    detach,
    load,
    mean_gradients,
    merge,
    save,
)
from hwnas.adapters.attaching import matching_linears
from hwnas.supernet.sam_model import build_sam, encode
from hwnas.workload.sam_geometry import GEOMETRIES
from tests.adapters.tiny_sam import GEOMETRY, quantize, shake, some_images, step, tiny_sam


@dataclass(frozen=True)
class Kind:
    """A kind with options. `exact`: fresh, it changes no bit; `folds`: it can be merged."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    exact: bool = True
    folds: bool = True
    by_gradient: bool = False

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{v}" for v in self.options.values())])

    def attach(self, sam: Any, images: torch.Tensor, **options: Any) -> Attached:
        gradients = None
        if self.by_gradient:
            losses = (encode(sam, image[None]).square().mean() for image in images)
            gradients = mean_gradients(sam, losses)
        return attach(sam, self.name, gradients=gradients, **self.options, **options)


KINDS = [
    Kind("lora", {"rank": 4}),
    Kind("lora", {"rank": 2, "alpha": 3.0, "split_qkv": True}),
    Kind("dora", {"rank": 4}),
    Kind("dora", {"rank": 0}),
    Kind("dora", {"rank": 2, "split_qkv": True}),
    Kind("shira", {"density": 0.02, "mask": "magnitude"}),
    Kind("shira", {"density": 0.02, "mask": "random", "slices": "qk"}),
    Kind("shira", {"density": 0.05, "mask": "struct"}),
    Kind("shira", {"density": 0.02, "mask": "gradient"}, by_gradient=True),
    Kind("shira", {"density": 0.02, "mask": "snip"}, by_gradient=True),
    Kind("shira_dora", {"density": 0.02, "rank": 4}),
    Kind("foura", {"rank": 4, "gate": "static"}),
    Kind("foura", {"rank": 4}, folds=False),
    Kind("nas_lora", {"rank": 4, "op_set": "token"}),
    Kind("nas_pc_lora", {"rank": 4}, folds=False),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
at_bits = pytest.mark.parametrize("bits", [None, 4], ids=["float", "4 bits"])


@pytest.fixture
def sam() -> Any:
    return tiny_sam()


@pytest.fixture
def images() -> torch.Tensor:
    return some_images()


@functools.cache
@torch.no_grad()
def _base(bits: int | None) -> torch.Tensor:
    """What the model gives without adapters, its layers quantized where bits are given."""
    bare = attach(tiny_sam(), "lora", rank=1)
    if bits is not None:
        quantize(bare, bits)
    with bare.disabled():
        return encode(bare.model, some_images())


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@at_bits
@every_kind
def test_fresh_it_changes_nothing(
    kind: Kind, bits: int | None, sam: Any, images: torch.Tensor
) -> None:
    before = _base(bits)
    attached = kind.attach(sam, images)
    if bits is not None:
        quantize(attached, bits)
    with torch.no_grad():
        found = encode(sam, images)
    if kind.exact:
        assert torch.equal(found, before)
    assert _relative(found, before) <= 1e-6


@every_kind
def test_saved_and_loaded_it_is_the_same(
    kind: Kind, sam: Any, images: torch.Tensor, tmp_path: Path
) -> None:
    other = copy.deepcopy(sam)
    attached = kind.attach(sam, images)
    shake(attached)
    loaded = load(other, save(attached, tmp_path / "made"))
    with torch.no_grad():
        assert torch.equal(encode(loaded.model, images), encode(sam, images))
    assert loaded.specs == attached.specs
    names = [
        [(name, p.shape) for name, p in found]
        for a in (attached, loaded)
        for found in a.trainable_groups().values()
    ]
    assert names[: len(names) // 2] == names[len(names) // 2 :]


@at_bits
@every_kind
def test_merged_it_is_the_same(
    kind: Kind, bits: int | None, sam: Any, images: torch.Tensor
) -> None:
    if not kind.folds:
        pytest.skip("this kind has an acceptance test of its own for what merging refuses")
    attached = kind.attach(sam, images)
    shake(attached)
    grids = {} if bits is None else quantize(attached, bits)
    with torch.no_grad():
        own = encode(sam, images)
    merged = merge(copy.deepcopy(attached))
    assert not any(isinstance(module, AdaptedLinear) for module in merged.modules())
    for path, grid in grids.items():
        parent, _, child = path.rpartition(".")
        plain = merged.get_submodule(path)
        setattr(merged.get_submodule(parent), child, AdaptedLinear(plain, quantizer=grid))
    with torch.no_grad():
        assert _relative(encode(merged, images), own) <= 1e-5


@at_bits
@every_kind
def test_training_leaves_the_base_alone_and_reaches_all_that_is_trainable(
    kind: Kind, bits: int | None, sam: Any, images: torch.Tensor
) -> None:
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    attached = kind.attach(sam, images)
    if bits is not None:
        quantize(attached, bits)
    step(attached, images, 2)
    attached.model.zero_grad()
    encode(sam, images).square().mean().backward()
    trained = {n: p for group in attached.trainable_groups().values() for n, p in group}
    for name, parameter in sam.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name
    still = [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
    assert still == []
    step(attached, images, 8)
    bare = detach(attached).state_dict()
    assert list(bare) == list(before)
    assert all(torch.equal(bare[name], value) for name, value in before.items())


@every_kind
def test_what_is_not_active_gets_no_gradient(kind: Kind, sam: Any, images: torch.Tensor) -> None:
    attached = kind.attach(sam, images, name="b2")
    gradients = {path: layer.weight for path, layer in attached.layers.items()}
    attached.add(kind.name, name="b4", seed=1, gradients=gradients, **kind.options)
    step(attached, images, 2)
    idle = [p for adapter in attached.adapters("b2").values() for p in adapter.parameters()]
    assert idle
    assert all(p.grad is None for p in idle)
    assert all(
        any(p.grad is not None for p in adapter.parameters())
        for adapter in attached.adapters("b4").values()
    )


@at_bits
@every_kind
def test_switched_off_it_leaves_the_base(
    kind: Kind, bits: int | None, sam: Any, images: torch.Tensor
) -> None:
    before = _base(bits)
    attached = kind.attach(sam, images)
    shake(attached)
    if bits is not None:
        quantize(attached, bits)
    with torch.no_grad():
        assert _relative(encode(sam, images), before) > 1e-4
        with attached.disabled():
            assert torch.equal(encode(sam, images), before)


def test_the_named_layers_of_sam_b_are_those_of_its_blocks() -> None:
    with torch.device("meta"):
        sam = build_sam(GEOMETRIES["sam-vit-b"])
    linears, qkv = matching_linears(sam, SAM_LINEARS), matching_linears(sam, SAM_QKV)
    assert (len(linears), len(qkv)) == (48, 12)
    assert all(path.startswith("image_encoder.blocks.") for path in linears)
    assert len(matching_linears(tiny_sam(), SAM_LINEARS)) == 4 * GEOMETRY.depth
