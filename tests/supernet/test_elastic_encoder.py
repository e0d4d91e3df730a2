"""The elastic encoder in floating point against stock modules, whole and sliced."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from hwnas.errors import ArchError, CheckpointError
from hwnas.supernet.elastic_encoder import ElasticEncoder
from hwnas.supernet.sam_model import encode
from hwnas.workload.sam_geometry import GEOMETRIES
from hwnas.workload.sam_plan import BlockPlan, EncoderPlan
from tests.supernet.elastic_models import (
    TINY,
    mixed_plan,
    random_sam,
    relative_error,
    smooth_images,
)

FLOAT = (32,) * 4


def _largest_error(name: str, resolution: int) -> float:
    geometry = GEOMETRIES[name]
    sam = random_sam(geometry)
    images = torch.randn(1, 3, resolution, resolution)
    with torch.no_grad():
        stock = sam.image_encoder if resolution == geometry.image_size else None
        expected = encode(sam, images) if stock is None else stock(images)
        plan = EncoderPlan.uniform(geometry, resolution=resolution)
        found = ElasticEncoder(sam.image_encoder, geometry).eval()(images, plan)
    assert found.shape == expected.shape
    return relative_error(found, expected)


@pytest.mark.parametrize(
    ("name", "resolution"), [("sam-vit-t", 512), ("sam-vit-t", 128), ("sam-vit-s", 256)]
)
def test_largest_network_equals_the_stock_encoder(name: str, resolution: int) -> None:
    assert _largest_error(name, resolution) <= 1e-4


@pytest.mark.slow
def test_largest_network_of_sam_b_equals_the_stock_encoder() -> None:
    assert _largest_error("sam-vit-b", 448) <= 1e-4


def _sliced_stock(sam: Any, plan: EncoderPlan) -> Any:
    """An encoder of stock blocks whose linear layers are small copies of the right rows."""
    encoder = copy.deepcopy(sam.image_encoder)
    hd = plan.geometry.head_dim
    blocks = []
    for block in plan.blocks:
        stock = encoder.blocks[block.index]
        inner, dim = block.heads * hd, plan.width
        rows = torch.cat([torch.arange(inner) + part * plan.geometry.dim for part in range(3)])
        stock.attn.qkv = _linear(stock.attn.qkv, rows, dim)
        stock.attn.proj = _linear(stock.attn.proj, torch.arange(dim), inner)
        stock.attn.num_heads = block.heads
        stock.mlp.lin1 = _linear(stock.mlp.lin1, torch.arange(block.mlp_hidden), dim)
        stock.mlp.lin2 = _linear(stock.mlp.lin2, torch.arange(dim), block.mlp_hidden)
        stock.norm1, stock.norm2 = (_norm(n, dim) for n in (stock.norm1, stock.norm2))
        blocks.append(stock)
    encoder.blocks = nn.ModuleList(blocks)
    return encoder


def _linear(source: nn.Linear, rows: torch.Tensor, columns: int) -> nn.Linear:
    layer = nn.Linear(columns, len(rows))
    with torch.no_grad():
        layer.weight.copy_(source.weight[rows][:, :columns])
        layer.bias.copy_(source.bias[rows])
    return layer


def _norm(source: nn.LayerNorm, dim: int) -> nn.LayerNorm:
    norm = nn.LayerNorm(dim, eps=source.eps)
    with torch.no_grad():
        norm.weight.copy_(source.weight[:dim])
        norm.bias.copy_(source.bias[:dim])
    return norm


def _reference(sam: Any, plan: EncoderPlan, images: torch.Tensor) -> torch.Tensor:
    """Stock modules, called one after the other."""
    encoder, width = _sliced_stock(sam, plan), plan.width
    position = encoder.pos_embed.permute(0, 3, 1, 2)
    position = functional.interpolate(position, (plan.grid,) * 2, mode="bicubic")
    x = encoder.patch_embed(images) + position.permute(0, 2, 3, 1)
    x, pooled = x[..., :width], False
    for block, module in zip(plan.blocks, encoder.blocks, strict=True):
        if plan.grid_of(block.index) != plan.grid and not pooled:
            x, pooled = functional.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1), True
        x = module(x)
    x = x.permute(0, 3, 1, 2)
    if pooled:
        x = functional.interpolate(x, (plan.grid,) * 2, mode="bilinear", align_corners=False)
    first, *rest = encoder.neck
    x = functional.conv2d(x, first.weight[:, :width])
    for layer in rest:
        x = layer(x)
    return x


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(
    "changes",
    [{}, {"resolution": 64}, {"pool_stage": 1}, {"dim": 32, "resolution": 64}],
    ids=["slices", "small", "token grid", "embedding width"],
)
def test_subnet_equals_sliced_stock_modules(changes: dict[str, Any], gradients: bool) -> None:
    sam = random_sam()
    blocks = (
        BlockPlan(0, 2, 96, FLOAT, FLOAT, 32),
        BlockPlan(1, 1, 192, FLOAT, FLOAT, 32),
        BlockPlan(3, 2, 144, FLOAT, FLOAT, 32),
    )
    options = {"resolution": 128, **changes}
    plan = EncoderPlan(TINY, blocks=blocks, edge_bits=32, **options)
    images = torch.randn(2, 3, plan.resolution, plan.resolution)
    encoder = ElasticEncoder(sam.image_encoder, TINY).eval()
    with torch.set_grad_enabled(gradients):
        found = encoder(images, plan).detach()
    with torch.no_grad():
        assert relative_error(found, _reference(sam, plan, images)) <= 1e-5


def test_wrapping_keeps_keys_and_weights() -> None:
    sam = random_sam()
    before = {k: v.clone() for k, v in sam.state_dict().items()}
    ElasticEncoder(sam.image_encoder, TINY).eval()(
        smooth_images()[1][None], EncoderPlan.uniform(TINY)
    )
    after = sam.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[k], before[k]) for k in before)


def test_quantized_plan_without_scales_is_refused() -> None:
    encoder = ElasticEncoder(random_sam().image_encoder, TINY).eval()
    with torch.no_grad(), pytest.raises(CheckpointError, match=r"no bit-width.*calibrate"):
        encoder(smooth_images()[1][None], mixed_plan())


def test_plans_that_do_not_fit_are_refused() -> None:
    encoder = ElasticEncoder(random_sam().image_encoder, TINY).eval()
    block = BlockPlan(0, 4, 999, FLOAT, FLOAT, 32)
    plan = EncoderPlan(TINY, 128, (block,), edge_bits=32)
    with pytest.raises(ArchError, match=r"heads 4 of 3.*999 of 192"):
        encoder(torch.zeros(1, 3, 128, 128), plan)
    with pytest.raises(ArchError, match="64x64"):
        encoder(torch.zeros(1, 3, 64, 64), EncoderPlan.uniform(TINY))
    with pytest.raises(CheckpointError, match="sam-vit-t"):
        ElasticEncoder(random_sam().image_encoder, GEOMETRIES["sam-vit-t"])
