"""What the autograd graph of a side network holds, and what it keeps for backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hwnas.adapters import attach
from hwnas.supernet.sam_model import encode
from hwnas.supernet.side.encoder import SideEncoder
from hwnas.supernet.side.features import Features, SamBackbone
from hwnas.supernet.side.layers import bit_histogram
from hwnas.supernet.side.network import side_network
from tests.supernet.side.side_models import (
    VARIANTS,
    leaves,
    pictures,
    saved_storages,
    shake,
    tiny_sam,
)


def addresses(tensors: Any) -> set[int]:
    return {t.untyped_storage().data_ptr() for t in tensors}


@pytest.mark.parametrize(("method", "options"), VARIANTS)
def test_the_graph_ends_at_the_features(method: str, options: dict[str, Any]) -> None:
    sam = tiny_sam()
    for p in sam.parameters():
        p.requires_grad_(True)  # a careless caller
    network, backbone = side_network(sam.geometry, method, **options), SamBackbone(sam)
    read: list[Features] = []

    def watched(images: torch.Tensor) -> Features:
        read.append(backbone.read(images, network.blocks, embed=network.embeds))
        return read[-1]

    encoder = SideEncoder(backbone, network, watched)
    embedding = encoder(pictures(1))
    own = {id(p): name for name, p in network.named_parameters()}
    assert {id(leaf) for leaf in leaves(embedding)} <= set(own)
    for features in read:
        assert all(x.grad_fn is None and not x.requires_grad for x in features.taps)
        assert features.last.grad_fn is None
        assert not features.last.requires_grad


@pytest.mark.parametrize(("method", "options"), VARIANTS)
def test_nothing_of_the_blocks_is_kept(method: str, options: dict[str, Any]) -> None:
    sam = tiny_sam()
    network = side_network(sam.geometry, method, **options)
    backbone = SamBackbone(sam)
    features: list[Features] = []
    inner: list[torch.Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _m, _a, out: inner.append(out))
        for block in sam.image_encoder.blocks
        for module in block.modules()
        if isinstance(module, torch.nn.Linear | torch.nn.LayerNorm)
    ]

    def watched(images: torch.Tensor) -> Features:
        features.append(backbone.read(images, network.blocks, embed=network.embeds))
        return features[-1]

    encoder = SideEncoder(backbone, network, watched)
    kept = saved_storages(lambda: encoder(pictures(1)))
    for hook in hooks:
        hook.remove()
    encoder_weights = addresses(sam.image_encoder.parameters())
    neck = addresses(sam.image_encoder.neck.parameters())
    before = network.config.inject == "before"
    assert set(kept) & encoder_weights <= (neck if before else set())
    assert len(inner) == 3 * 6
    assert not set(kept) & (addresses(inner) - addresses(features[0].taps))


def kept_bytes(run: Any) -> int:
    return sum(saved_storages(run).values())


def test_memory_does_not_grow_with_the_depth_of_the_encoder() -> None:
    images = pictures(1)
    side, lora = [], []
    for depth in (3, 6, 12):
        sam = tiny_sam(depth)
        network = side_network(sam.geometry, "losa", taps="global")
        assert len(network.cells) == 1
        side.append(kept_bytes(lambda: SideEncoder(SamBackbone(sam), network)(images)))  # noqa: B023
        attached = attach(sam, "lora", rank=8)
        lora.append(kept_bytes(lambda: encode(attached.model, images)))  # noqa: B023
    assert side[0] == side[1] == side[2]
    assert lora[0] < lora[1] < lora[2]
    assert lora[2] - lora[1] > 1.8 * (lora[1] - lora[0])  # linear: 3 blocks more, then 6
    assert side[2] < lora[2] / 4


def test_memory_grows_with_the_taps_by_less_than_with_adapted_blocks() -> None:
    images, sam = pictures(1), tiny_sam(6)

    def taps(n: int) -> int:
        network = side_network(sam.geometry, "losa", taps=f"last:{n}")
        return kept_bytes(lambda: SideEncoder(SamBackbone(sam), network)(images))

    one, two, six = (taps(n) for n in (1, 2, 6))
    # a first cell keeps its tap alone, the next ones the sum with what came before too
    assert six - two == pytest.approx(4 * (two - one), rel=0.1)
    attached = attach(sam, "lora", rank=8)
    assert six < kept_bytes(lambda: encode(attached.model, images)) / 2


@pytest.mark.parametrize(("method", "options"), VARIANTS)
def test_recomputed_cells_keep_less_and_give_the_same_gradients(
    method: str, options: dict[str, Any]
) -> None:
    sam = tiny_sam()
    network = shake(side_network(sam.geometry, method, **options))
    frames = network.config.frames or 1
    features = SamBackbone(sam).read(pictures(frames), network.blocks, embed=network.embeds)
    found, kept = [], []
    for recompute in (False, True):
        network.recompute = recompute

        def run() -> torch.Tensor:
            added: torch.Tensor = network(features, bit_histogram(None), frames=frames)
            return added

        kept.append(kept_bytes(run))
        found.append(torch.autograd.grad(run().square().sum(), list(network.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)
    assert kept[1] < 0.7 * kept[0]
