"""NAS-LoRA, Conv-LoRA and FouRA on a stock SAM, whose windows are padded: the common promises."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from hwnas.adapters import SAM_LINEARS, SAM_QKV, Attached, NotFoldable, attach, merge
from hwnas.adapters.kinds.foura import freeze_gates
from hwnas.adapters.kinds.nas_lora import cells, fold_residuals
from hwnas.adapters.kinds.token_maps import whole_images
from hwnas.supernet.sam_model import build_sam, encode
from hwnas.workload.sam_geometry import SamGeometry

GEOMETRY = SamGeometry(
    "tiny", dim=48, depth=3, heads=3, global_blocks=(2,), window=3, resolutions=(128,),
    heads_options=(3,),
)  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "nas_lora": ("nas_lora", {}),
    "nas_lora token": ("nas_lora", {"op_set": "token"}),
    "nas_lora image": ("nas_lora", {"spatial_scope": "image"}),
    "nas_lora darts": ("nas_lora", {"op_set": "darts", "cell_nodes": 2}),
    "nas_pc_lora": ("nas_pc_lora", {}),
    "conv_lora": ("conv_lora", {"experts": 3}),
    "foura": ("foura", {}),
    "foura static": ("foura", {"gate": "static"}),
    "foura rfft": ("foura", {"gate": "none", "transform": "rfft"}),
}
FOLDING = ("nas_lora", "nas_lora token", "nas_pc_lora", "foura", "foura static", "foura rfft")


@pytest.fixture
def sam() -> Any:
    torch.manual_seed(0)
    return build_sam(GEOMETRY).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(1))


def attached_to(sam: Any, kind: str, targets: str = SAM_QKV) -> Attached:
    name, options = KINDS[kind]
    return attach(sam, name, targets=targets, **options)


def shake(attached: Attached) -> None:
    """Move every trainable parameter, as training would."""
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for group in attached.trainable_groups().values():
            for _, p in group:
                p.add_(0.1 * torch.randn(p.shape, generator=rng))


def loss_of(sam: Any, attached: Attached, images: torch.Tensor) -> torch.Tensor:
    found = encode(sam, images)
    goal = torch.randn(found.shape, generator=torch.Generator().manual_seed(4))
    loss = (found - goal).square().mean()
    for adapter in attached.adapters("default").values():
        extra = adapter.auxiliary_loss()
        loss = loss if extra is None else loss + extra
    return loss


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_fresh_disabled_and_loaded(sam: Any, images: torch.Tensor, kind: str) -> None:
    before = encode(sam, images)
    bare = copy.deepcopy(sam)
    attached = attached_to(sam, kind, SAM_LINEARS)
    assert len(attached.layers) == 4 * GEOMETRY.depth
    sam.eval()
    assert torch.equal(encode(sam, images), before)
    shake(attached)
    own = encode(sam, images)
    assert (own - before).abs().max() > 1e-3
    with attached.disabled():
        assert torch.equal(encode(sam, images), before)
    other = attached_to(bare, kind, SAM_LINEARS)
    other.model.load_state_dict(sam.state_dict())
    assert torch.equal(encode(other.model.eval(), images), own)


@pytest.mark.parametrize("kind", KINDS)
def test_training_moves_adapters_alone_and_all_of_them(
    sam: Any, images: torch.Tensor, kind: str
) -> None:
    torch.manual_seed(3)
    frozen = {name: p.detach().clone() for name, p in sam.named_parameters()}
    attached = attached_to(sam, kind)
    sam.train()
    named = [pair for group in attached.trainable_groups().values() for pair in group]
    optimizer = torch.optim.AdamW([p for _, p in named], lr=1e-2)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = loss_of(sam, attached, images)
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
    assert losses[-1] < losses[0] - 1e-4
    assert [name for name, p in named if p.grad is None or not p.grad.any()] == []
    for path, layer in attached.layers.items():
        assert torch.equal(layer.weight, frozen[f"{path}.weight"])
    trained = {id(p) for _, p in named}
    assert all(p.grad is None for p in sam.parameters() if id(p) not in trained)


@pytest.mark.parametrize("kind", FOLDING)
def test_merged_equals_attached(sam: Any, images: torch.Tensor, kind: str) -> None:
    attached = attached_to(sam, kind)
    shake(attached)
    sam.eval()
    for cell in cells(attached.adapters("default")).values():
        if cell.role == "branch":
            with pytest.raises(NotFoldable):
                merge(attached)
            cell.anneal(1.0)
    if kind == "foura":
        with pytest.raises(NotFoldable, match="freeze_gates"):
            merge(attached)
        kept = freeze_gates(attached.adapters("default"), lambda: encode(sam, images))
        assert all(len(ranks) == 3 for ranks in kept.values())  # q, k and v
    with torch.no_grad():
        own = encode(sam, images)
        found = encode(merge(attached), images)
    torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-5)


def test_every_layer_tells_what_each_export_loses(sam: Any, images: torch.Tensor) -> None:
    attached = attached_to(sam, "nas_lora")
    shake(attached)
    sam.eval()
    found = fold_residuals(attached.adapters("default"), lambda: encode(sam, images))
    assert list(found) == list(attached.layers)
    for lost in found.values():
        assert lost["branch"] == 0
        assert 0 < lost["lsq"] <= min(lost["anneal"], lost["token"])


@torch.no_grad()
def test_cells_of_windowed_blocks_may_see_whole_images(sam: Any, images: torch.Tensor) -> None:
    attached = attached_to(sam, "nas_lora image")
    shake(attached)
    apart = encode(sam, images)
    handles = whole_images(sam.image_encoder.blocks)
    together = encode(sam, images)
    assert (together - apart).abs().max() > 1e-3
    layer = attached.layers["image_encoder.blocks.0.attn.qkv"]
    x, change = torch.randn(1, 8, 8, GEOMETRY.dim), {}
    found: list[torch.Tensor] = []
    layer.register_forward_hook(lambda m, i, y: found.append(y))
    for scope in ("window", "image"):
        layer.adapter("default").joins = scope == "image"
        found.clear()
        for moved in (x, x.index_fill(1, torch.tensor(2), 3.0)):  # the last row of a window
            sam.image_encoder.blocks[0](moved)
        difference = (found[1] - found[0]).reshape(3, 3, 3, 3, -1)  # rows, columns, h, w
        change[scope] = float(difference[1].abs().max())  # the row of windows below
    assert change["window"] == 0
    assert change["image"] > 1e-3
    for handle in handles:
        handle.remove()
    layer.adapter("default").joins = True
    assert torch.equal(encode(sam, images), apart)


@torch.no_grad()
def test_gates_of_windowed_blocks_see_whole_images(sam: Any, images: torch.Tensor) -> None:
    attached = attached_to(sam, "foura")
    shake(attached)
    for name, p in sam.named_parameters():
        if "gate.second" in name:
            p.normal_(0, 4, generator=torch.Generator().manual_seed(5))
    sam.train()
    apart = encode(sam, images)
    handles = whole_images(sam.image_encoder.blocks)
    together = encode(sam, images)
    assert not torch.allclose(apart, together, atol=1e-4)
    alone = torch.cat([encode(sam, image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)
    for handle in handles:
        handle.remove()
    assert torch.equal(encode(sam, images), apart)
