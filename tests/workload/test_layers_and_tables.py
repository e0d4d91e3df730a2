"""Layers, their builders, and the struct of arrays against plain loops."""

import math

import numpy as np
import pytest

from hwnas.errors import CostError
from hwnas.workload import GEOMETRIES, LayerSpec, LayerTable, Workload, WorkloadBatch, ops
from hwnas.workload.ops import Bits
from hwnas.workload.sam import EncoderPlan, encoder_layers
from hwnas.workload.sam_decoder import mask_decoder_layers


@pytest.fixture(scope="module")
def layers():
    plan = EncoderPlan.uniform(GEOMETRIES["sam-vit-t"], w_bits=3, a_bits=4, attn_bits=4)
    return (*encoder_layers(plan), *mask_decoder_layers(plan.grid))


def test_a_workload_survives_json(layers):
    workload = Workload(layers, (3, 512, 512))
    again = Workload.from_json(workload.to_json())
    assert again == workload
    assert again.macs == sum(layer.macs for layer in layers)


def test_names_are_unique(layers):
    names = [layer.name for layer in layers]
    assert len(set(names)) == len(names)


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(CostError, match="unknown kind 'linaer'; did you mean linear"):
        LayerSpec("x", "linaer", 1, 1, 1, 1)


@pytest.mark.parametrize("wrong", [{"w_bits": 0}, {"a_bits": -1}, {"out_bits": 0}])
def test_impossible_bits_are_refused(wrong):
    with pytest.raises(CostError, match="at least 1"):
        LayerSpec("x", "linear", 1, 1, 1, 1, **wrong)


def test_negative_counts_are_refused():
    with pytest.raises(CostError, match="negative"):
        LayerSpec("x", "linear", -1, 1, 1, 1)


def test_table_formulas_equal_loops(layers):
    table = LayerTable.of(layers)
    assert table.bit_operations().tolist() == [x.macs * x.w_bits * x.a_bits for x in layers]
    assert table.weight_bytes().tolist() == [
        math.ceil(x.weight_elems * x.w_bits / 8) + 4 * (x.scales + x.bias_elems) for x in layers
    ]
    assert table.live_bytes().tolist() == [
        (
            x.in_elems * x.a_bits
            + x.extra_in_elems * x.w_bits
            + x.out_elems * x.out_bits
            + x.held_bits
        )
        / 8
        for x in layers
    ]
    assert table.runs(5).tolist() == [5 if x.per_prompt else 1 for x in layers]
    assert table.is_kind("linear", "conv").tolist() == [
        x.kind in ("linear", "conv") for x in layers
    ]


def test_rows_of_a_table(layers):
    chosen = LayerTable.of(layers).rows(LayerTable.of(layers).is_kind("matmul"))
    assert chosen.macs.tolist() == [x.macs for x in layers if x.kind == "matmul"]


def test_a_batch_reduces_each_workload_and_empty_ones_to_zero(layers):
    parts = [(), layers[:3], (), layers[3:10], (), ()]
    batch = WorkloadBatch.of(parts)
    values = np.stack([batch.table.macs, -1.0 - batch.table.out_elems], axis=1).astype(float)
    sums, maxima = batch.sums(values), batch.maxima(values)
    assert len(batch) == 6
    for part, total, largest in zip(parts, sums, maxima, strict=True):
        assert total[0] == sum(x.macs for x in part)
        assert total[1] == sum(-1.0 - x.out_elems for x in part)
        assert largest[0] == max((x.macs for x in part), default=0)
        assert largest[1] == max((-1.0 - x.out_elems for x in part), default=0)


def test_a_batch_of_nothing():
    batch = WorkloadBatch.of([])
    assert batch.sums(np.zeros((0, 2))).shape == (0, 2)


def test_a_convolution_counts_groups_and_stride():
    bits = Bits(8, 4, 4)
    layer = ops.conv("c", (8, 8), 3, 5, bits, stride=2, groups=8)
    assert layer.kind == "dwconv"
    assert layer.macs == 5 * 5 * 8 * 9
    assert layer.in_elems == 100 * 8
    assert layer.scales == 8 + 2
    assert ops.conv("c", (8, 16), 3, 5, bits, groups=4).macs == 5 * 5 * 16 * 9 * 2


def test_float_layers_store_no_quantizer_constants():
    assert ops.linear("l", 4, 8, 16, Bits(16, 16, 16)).scales == 0
    assert ops.linear("l", 4, 8, 16, Bits(4, 16, 16)).scales == 16
    assert ops.linear("l", 4, 8, 16, Bits(4, 8, 16), bias=False).bias_elems == 0


@pytest.mark.parametrize(
    ("name", "size", "dim", "heads", "depth", "printed"),
    [
        ("DeiT-T 224", 224, 192, 3, 12, (1.254, 1283.8, 80.24, 45.84, 20.06, 80.18)),
        ("DeiT-T 1024", 1024, 192, 3, 12, (99.700, 102092.7, 6380.79, 5665.51, 1595.20, 20516.16)),
        ("DeiT-S 224", 224, 384, 6, 12, (4.599, 4709.3, 294.33, 158.61, 73.58, 227.28)),
        ("DeiT-S 384", 384, 384, 6, 12, (15.490, 15862.1, 991.38, 593.88, 247.85, 1182.98)),
        ("ViT-B 224", 224, 768, 12, 12, (17.564, 17985.4, 1124.09, 584.93, 281.02, 722.28)),
        (
            "ViT-B 1024", 1024, 768, 12, 12,
            (659.783, 675617.4, 42226.09, 31013.48, 10556.52, 90416.10),
        ),
    ],
)  # fmt: skip
def test_published_plain_vits(name, size, dim, heads, depth, printed):
    """GMACs, then GBitOPs in fp32, W8A8, W4A8, W4A4, and W4A8 with attention in 16 bit."""

    def giga(w, a, attn):
        patches = (size // 16) ** 2
        tokens = patches + 1
        line, both = Bits(w, a, a), Bits(attn, attn, attn)
        block = [
            ops.linear("qkv", tokens, dim, 3 * dim, line),
            ops.matmul("qk", heads, tokens, dim // heads, tokens, both),
            ops.matmul("av", heads, tokens, tokens, dim // heads, both),
            ops.linear("proj", tokens, dim, dim, line),
            ops.linear("fc1", tokens, dim, 4 * dim, line),
            ops.linear("fc2", tokens, 4 * dim, dim, line),
        ]
        ends = [
            ops.conv("patch", (3, dim), 16, size // 16, line, stride=16),
            ops.linear("head", 1, dim, 1000, line),
        ]
        table = LayerTable.of(block * depth + ends)
        return table.macs.sum() / 1e9, table.bit_operations().sum() / 1e9

    found = (
        round(giga(8, 8, 8)[0], 3),
        round(giga(32, 32, 32)[1], 1),
        round(giga(8, 8, 8)[1], 2),
        round(giga(4, 8, 8)[1], 2),
        round(giga(4, 4, 4)[1], 2),
        round(giga(4, 8, 16)[1], 2),
    )
    assert found == printed, name
