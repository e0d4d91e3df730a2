"""Sorting by importance moves tensors and changes nothing; what matters comes first."""

from __future__ import annotations

import pytest
import torch

from hwnas.errors import CheckpointError
from hwnas.supernet.elastic_encoder import ElasticEncoder
from hwnas.supernet.encoder_order import EncoderOrder, drop_order, sort_encoder
from hwnas.supernet.importance import measure_importance
from hwnas.supernet.sam_model import encode
from tests.supernet.elastic_models import TINY, random_sam, relative_error, smooth_images


def test_sorted_largest_network_equals_the_original() -> None:
    sam, images = random_sam(), torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        before = encode(sam, images)
        order = measure_importance(ElasticEncoder(sam.image_encoder, TINY), smooth_images())
        sort_encoder(sam.image_encoder, order, TINY)
        assert relative_error(encode(sam, images), before) <= 1e-5
    stock = EncoderOrder.stock(TINY)
    assert not torch.equal(order.units, stock.units)
    assert not torch.equal(order.channels, stock.channels)


def test_importance_finds_what_was_made_important() -> None:
    sam = random_sam()
    block, hd = sam.image_encoder.blocks[2], TINY.head_dim
    with torch.no_grad():
        block.attn.proj.weight[:, hd : 2 * hd] *= 20  # head 1
        block.mlp.lin2.weight[:, 7] *= 50
        sam.image_encoder.blocks[0].attn.proj.weight.zero_()
        sam.image_encoder.blocks[0].attn.proj.bias.zero_()
        sam.image_encoder.blocks[0].mlp.lin2.weight.zero_()
        sam.image_encoder.blocks[0].mlp.lin2.bias.zero_()
    order = measure_importance(ElasticEncoder(sam.image_encoder, TINY), smooth_images())
    assert int(order.heads[2, 0]) == 1
    assert int(order.units[2, 0]) == 7
    assert float(order.blocks[0]) == pytest.approx(0, abs=1e-6)
    assert int(order.blocks.argmin()) == 0


def test_head_scores_equal_a_loop() -> None:
    sam, hd = random_sam(), TINY.head_dim
    seen: list[torch.Tensor] = []
    attention = sam.image_encoder.blocks[1].attn
    attention.proj.register_forward_hook(lambda _m, x, _y: seen.append(x[0]))
    image = smooth_images()[1]
    with torch.no_grad():
        encode(sam, image[None])
    outputs = seen[0].reshape(-1, TINY.heads, hd)
    norms = [
        (outputs[:, h] @ attention.proj.weight[:, h * hd : (h + 1) * hd].t()).norm()
        for h in range(TINY.heads)
    ]
    order = measure_importance(ElasticEncoder(sam.image_encoder, TINY), [image])
    expected = torch.stack(norms).argsort(descending=True)
    assert torch.equal(order.heads[1], expected)


def test_last_block_of_a_stage_is_dropped_last() -> None:
    importance = torch.tensor([0.9, 0.1, 0.2, 0.05])
    assert drop_order(importance, TINY) == ((0, 1), (2, 3))


def test_an_order_that_is_no_permutation_is_refused() -> None:
    order = EncoderOrder.stock(TINY)
    broken = EncoderOrder(order.heads * 0, order.units, order.channels, order.blocks)
    with pytest.raises(CheckpointError, match="order of heads"):
        sort_encoder(random_sam().image_encoder, broken, TINY)
