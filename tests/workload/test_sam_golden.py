"""Golden counts of SAM's encoder and decoder, to the last digit.

The numbers were computed once from the shapes and compared with PyTorch's flop counter on the
stock modules; `test_sam_flop_counter.py` repeats that comparison.
"""

import pytest

from hwnas.workload import GEOMETRIES, LayerTable
from hwnas.workload.sam import BlockPlan, EncoderPlan, encoder_layers
from hwnas.workload.sam_decoder import mask_decoder_layers, prompt_encoder_layers

ENCODER_MACS = {
    ("sam-vit-b", 1024): 486038667264,
    ("sam-vit-b", 896): 340265533440,
    ("sam-vit-b", 768): 255950585856,
    ("sam-vit-b", 672): 176377872384,
    ("sam-vit-b", 448): 73602170880,
    ("sam-vit-l", 1024): 1492840153088,
    ("sam-vit-l", 896): 1061155766272,
    ("sam-vit-l", 768): 840719925248,
    ("sam-vit-l", 672): 576871464960,
    ("sam-vit-l", 448): 250003324928,
    ("sam-vit-h", 1024): 2980541415424,
    ("sam-vit-h", 896): 2128669835264,
    ("sam-vit-h", 768): 1709299204096,
    ("sam-vit-h", 672): 1172340965376,
    ("sam-vit-h", 448): 513060438016,
}
DECODER_MACS = {64: 1811302400, 56: 1391790080, 42: 792237056, 28: 363984896}
# (w_bits and a_bits, attn_bits) -> R 1024, 896, 672, 448
BITOPS_B = {
    (8, 8): (31106474704896, 21776994140160, 11288183832576, 4710538936320),
    (4, 8): (13679242248192, 8991950241792, 4096596639744, 1514277961728),
    (4, 4): (8086458728448, 5677309231104, 2950714884096, 1233741938688),
    (3, 4): (5544987328512, 3812823662592, 1901941751808, 767620546560),
    (2, 4): (3729650614272, 2481048256512, 1152818085888, 434676695040),
}
BITOPS_AT_1024 = {
    ("sam-vit-l", 8, 8): 95541769797632,
    ("sam-vit-l", 4, 4): 24286882430976,
    ("sam-vit-h", 8, 8): 190754650587136,
    ("sam-vit-h", 4, 4): 48183950442496,
}


def encoder_table(name, resolution=None, **bits):
    plan = EncoderPlan.uniform(GEOMETRIES[name], resolution=resolution, **bits)
    return LayerTable.of(encoder_layers(plan))


def closed_form_macs(geometry, resolution):
    """The closed form of the specification, written independently of the layer list."""
    d, f, g = geometry.dim, geometry.mlp_hidden, resolution // 16
    tokens = g * g
    total = tokens * d * 768 + tokens * d * 256 + tokens * 256 * 256 * 9
    for block in range(geometry.depth):
        w = geometry.window_of(block)
        side, regions = (w, (-(-g // w)) ** 2) if w else (g, 1)
        length = side * side
        padded = regions * length
        total += padded * d * 3 * d + padded * d * d + 2 * tokens * d * f
        total += 2 * regions * length**2 * d + 2 * regions * length * side * d
    return total


@pytest.mark.parametrize(("name", "resolution"), ENCODER_MACS)
def test_encoder_macs(name, resolution):
    macs = int(encoder_table(name, resolution).macs.sum())
    assert macs == ENCODER_MACS[name, resolution]
    assert macs == closed_form_macs(GEOMETRIES[name], resolution)


@pytest.mark.parametrize("name", ["sam-vit-t", "sam-vit-s"])
def test_encoder_macs_of_our_sizes_equal_the_closed_form(name):
    for resolution in GEOMETRIES[name].resolutions:
        macs = int(encoder_table(name, resolution).macs.sum())
        assert macs == closed_form_macs(GEOMETRIES[name], resolution)


@pytest.mark.parametrize("grid", DECODER_MACS)
def test_decoder_macs_for_one_box(grid):
    assert sum(layer.macs for layer in mask_decoder_layers(grid)) == DECODER_MACS[grid]


@pytest.mark.parametrize(("bits", "attn_bits"), BITOPS_B)
def test_encoder_bitops_of_sam_b(bits, attn_bits):
    found = tuple(
        int(
            encoder_table("sam-vit-b", r, w_bits=bits, a_bits=bits, attn_bits=attn_bits)
            .bit_operations()
            .sum()
        )
        for r in (1024, 896, 672, 448)
    )
    assert found == BITOPS_B[bits, attn_bits]


@pytest.mark.parametrize(("name", "bits", "attn_bits"), BITOPS_AT_1024)
def test_encoder_bitops_of_sam_l_and_h(name, bits, attn_bits):
    table = encoder_table(name, w_bits=bits, a_bits=bits, attn_bits=attn_bits)
    assert int(table.bit_operations().sum()) == BITOPS_AT_1024[name, bits, attn_bits]


@pytest.mark.parametrize(("attn_bits", "bitops"), [(8, 1975466852352), (4, 1282758672384)])
def test_sub_architecture(attn_bits, bitops):
    geometry = GEOMETRIES["sam-vit-b"]
    blocks = tuple(
        BlockPlan(i, 8, 2 * 768, (4,) * 4, (4,) * 4, attn_bits) for i in (1, 2, 4, 5, 7, 8, 10, 11)
    )
    table = LayerTable.of(encoder_layers(EncoderPlan(geometry, 672, blocks)))
    assert int(table.macs.sum()) == 72484651008
    assert int(table.bit_operations().sum()) == bitops


def test_all_8_bit_is_64_macs_and_fp32_is_1024():
    eight = encoder_table("sam-vit-b", 672, w_bits=8, a_bits=8, attn_bits=8)
    full = encoder_table("sam-vit-b", 672)
    assert int(eight.bit_operations().sum()) == 64 * ENCODER_MACS["sam-vit-b", 672]
    assert int(full.bit_operations().sum()) == 1024 * ENCODER_MACS["sam-vit-b", 672]


@pytest.mark.parametrize(
    ("name", "params"),
    [("sam-vit-b", 89670912), ("sam-vit-l", 308278272), ("sam-vit-h", 637026048)],
)
def test_encoder_parameters(name, params):
    table = encoder_table(name)
    assert int((table.weight_elems + table.bias_elems).sum()) == params


def test_decoder_parameters():
    layers = mask_decoder_layers(64)
    assert sum(layer.weight_elems + layer.bias_elems for layer in layers) == 4058340


def test_prompt_encoder_parameters():
    # 6,220 in the package, of which 4,684 embed a mask prompt, plus the 256 of a buffer
    (layer,) = prompt_encoder_layers()
    assert layer.weight_elems == 6220 - 4684 + 256
    assert layer.macs == 0


def test_macs_by_part_of_sam_b():
    by_part: dict[str, int] = {}
    for layer in encoder_layers(EncoderPlan.uniform(GEOMETRIES["sam-vit-b"])):
        part = layer.name.rpartition(".")[2] if layer.group.startswith("blocks") else layer.group
        by_part[part] = by_part.get(part, 0) + layer.macs
    linears = sum(by_part[name] for name in ("qkv", "proj", "lin1", "lin2"))
    giga = {
        "stem": by_part["stem"],
        "linears": linears,
        "products": by_part["qk"] + by_part["av"],
        "relative": by_part["rel_h"] + by_part["rel_w"],
        "neck": by_part["neck"],
    }
    rounded = {part: round(macs / 1e9, 2) for part, macs in giga.items()}
    assert rounded == {
        "stem": 2.42, "linears": 363.07, "products": 114.88, "relative": 2.45, "neck": 3.22,
    }  # fmt: skip


def test_published_count_without_attention():
    # SlimSAM lists 372 / 1315 / 2736 G for B / L / H: linears, patch, neck and decoder
    for name, giga in [("sam-vit-b", 370.5), ("sam-vit-l", 1312.9), ("sam-vit-h", 2734.1)]:
        table = encoder_table(name)
        macs = int(table.macs[~table.is_kind("matmul")].sum()) + DECODER_MACS[64]
        assert round(macs / 1e9, 1) == giga
