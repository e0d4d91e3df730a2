"""The quantized forward pass: fast against differentiable, piece by piece, and its promises."""

from __future__ import annotations

import pytest
import torch

from hwnas.quant.linear import ActivationGrid
from hwnas.quant.lsq import quantize_activation
from hwnas.supernet import attention as attention_module
from hwnas.supernet.attention import Attention, AttentionGrids
from hwnas.supernet.neck_conv import FloatConv, integer_conv
from hwnas.supernet.position_tables import by_offset, by_pair, quantize_table, resize_table
from hwnas.supernet.torchvision_shim import ensure_torchvision
from hwnas.supernet.trainable_attention import TrainableAttention
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.elastic_models import (
    TINY,
    calibrated,
    mixed_plan,
    relative_error,
    smooth_images,
)


@pytest.mark.parametrize("bits", [4, 8, 32])
@pytest.mark.parametrize("piece", [1 << 18, 300], ids=["whole", "pieces"])
def test_fast_attention_equals_the_differentiable_one(
    bits: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_module, "_PIECE", piece)
    torch.manual_seed(0)
    side, heads, size, n = 5, 2, 8, 3
    qkv = torch.randn(n, side**2, 3 * heads * size)
    tables = [torch.randn(2 * side - 1, size) for _ in "hw"]
    scales = torch.tensor([0.5, 0.4, 0.6, 0.06]) * 2.0 ** (4 - min(bits, 8))
    grids = None if bits == 32 else AttentionGrids(*scales.tolist(), bits)
    fast = Attention(side, heads, size, by_offset(*tables), grids)
    height, width = (by_pair(t) for t in tables)
    slow = TrainableAttention(
        side, heads, size, height, width, None if bits == 32 else scales, bits, windows=1
    )
    # A rounded softmax weight may fall to the other side; all others agree to the last digits.
    assert relative_error(fast(qkv), slow(qkv)) < (1e-5 if bits == 32 else 2e-3)


def test_attention_without_tables_equals_tables_of_zeros() -> None:
    torch.manual_seed(0)
    qkv, zeros = torch.randn(2, 16, 3 * 8), torch.zeros(7, 4)
    grids = AttentionGrids(0.1, 0.1, 0.1, 0.01, 8)
    with_table = Attention(4, 2, 4, by_offset(zeros, zeros), grids)(qkv)
    assert relative_error(Attention(4, 2, 4, None, grids)(qkv), with_table) < 1e-4


def test_relative_tables_resize_like_the_stock_function() -> None:
    ensure_torchvision()
    from segment_anything.modeling.image_encoder import get_rel_pos

    table = torch.randn(27, 8)
    for side in (14, 9, 20):
        torch.testing.assert_close(
            by_pair(resize_table(table, side)), get_rel_pos(side, side, table)
        )
    assert len(quantize_table(table).unique()) <= 255


def test_integer_convolution_equals_the_float_one_at_the_border() -> None:
    torch.manual_seed(0)
    codes = torch.randint(-128, 128, (6, 5, 3, 3), dtype=torch.int8)
    scale, grid = torch.rand(6) * 0.01, ActivationGrid(0.03, -2.0, 255)
    x = (torch.randint(0, 256, (2, 7, 7, 5)) + 0.2) * grid.scale + grid.offset
    expected = FloatConv(codes * scale.view(-1, 1, 1, 1), grid)(x)
    assert relative_error(integer_conv(codes, scale, grid, 7)(x), expected) < 1e-5


def test_one_quantized_block_equals_its_differentiable_twin() -> None:
    net, images = calibrated(), smooth_images()[1][None]
    plan = EncoderPlan.uniform(TINY, w_bits=8, a_bits=8, attn_bits=8)
    slow = net.encoder.view(plan)
    with torch.no_grad():
        fast = net.encoder.view(plan)
        tokens = slow.tokens(images)
        # Codes next to a rounding boundary may differ by one step; the rest must agree.
        assert relative_error(fast.tokens(images), tokens) < 2e-3
        for place in range(len(plan.blocks)):
            assert relative_error(fast.block(place, tokens), slow.block(place, tokens)) < 2e-3
        assert relative_error(fast.neck(tokens), slow.neck(tokens)) < 2e-3


def test_error_falls_with_every_bit() -> None:
    net, images = calibrated(), smooth_images()[1][None]
    exact = net.teacher(images)
    errors = []
    for bits in (2, 3, 4, 6, 8):
        plan = EncoderPlan.uniform(TINY, w_bits=bits, a_bits=bits, attn_bits=8)
        errors.append(relative_error(net.embed(images, plan), exact))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05


def test_batch_equals_single_images() -> None:
    net = calibrated()
    batch = torch.stack([smooth_images(seed=s)[1] for s in range(3)])
    plan = mixed_plan()
    singles = torch.cat([net.embed(image[None], plan) for image in batch])
    assert relative_error(net.embed(batch, plan), singles) < 1e-5


def test_quantized_tensors_have_few_values() -> None:
    net = calibrated()
    with torch.no_grad():
        view = net.encoder.view(mixed_plan())
        weight = view.blocks[1].qkv.weight  # 2-bit weights, 8-bit inputs
    assert set(weight.unique().tolist()) <= {-2, -1, 0, 1}


def test_training_forgets_prepared_weights() -> None:
    net, images = calibrated(), smooth_images()[1][None]
    plan = EncoderPlan.uniform(TINY, w_bits=8, a_bits=8, attn_bits=8)
    before = net.embed(images, plan)
    net.train()
    with torch.no_grad():
        net.sam.image_encoder.blocks[0].mlp.lin1.weight.mul_(3.0)
    net.eval()
    assert relative_error(net.embed(images, plan), before) > 0.01


def test_gradients_reach_weights_and_scales() -> None:
    net, images = calibrated(), smooth_images()[1][None]
    plan = mixed_plan()
    net.encoder(images, plan).square().mean().backward()
    block = net.sam.image_encoder.blocks[1]
    assert block.attn.qkv.weight.grad is not None
    assert block.attn.qkv.weight.grad[: 2 * 16].abs().sum() > 0
    assert block.attn.qkv.weight.grad[2 * 16 : 48].abs().sum() == 0  # the dropped third head
    for name in ("blocks.1.qkv.weight.4", "blocks.1.qkv.input.8", "blocks.1.attn.8"):
        grad = net.encoder.scales[name].grad
        assert grad is not None
        assert torch.isfinite(grad).all()
        assert grad.abs().sum() > 0
    assert net.encoder.scales["blocks.0.qkv.weight.4"].grad is None


def test_activations_are_quantized_to_the_calibrated_grid() -> None:
    net = calibrated()
    scale, offset = net.encoder.scales["blocks.0.lin2.input.3"].detach()
    x = torch.linspace(-2, 2, 500)
    fast = ActivationGrid.of(scale, offset, 3).quantize(x)
    torch.testing.assert_close(fast, quantize_activation(x, scale, offset, 3, elements=500))
    assert len(fast.unique()) <= 8
