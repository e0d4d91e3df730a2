"""BitOPs, MACs, size and peak memory as cost models of a space."""

import numpy as np
import pytest

from cost_models.bitops import Bitops, system_bitops
from cost_models.macs import Macs
from cost_models.model_size import ModelSize, PeakMemory
from hwnas.cost import CostContext, build
from hwnas.cost.lowering import lower
from hwnas.errors import CostError
from search_spaces.mobile_cnn import mobile_cnn
from search_spaces.sam import sam_vit_b, sam_vit_t


@pytest.fixture(scope="module")
def context():
    return CostContext(sam_vit_t())


@pytest.fixture(scope="module")
def archs(context):
    return context.space.sample(np.random.default_rng(5), 12)


def layers(context, arch):
    return lower(context.space, arch).layers


def test_bitops_of_the_largest_sam_b_are_golden():
    space = sam_vit_b()
    context, largest = CostContext(space), [space.largest()]
    assert Bitops(context).evaluate(largest)[0] == 31106474704896 / 1e9
    # the decoder in fp16, three times
    expected = (31106474704896 + 3 * 1811302400 * 256) / 1e9
    assert system_bitops(context, prompts=3).evaluate(largest)[0] == expected
    assert Macs(context).evaluate(largest)[0] == 486038667264 / 1e9
    system = Macs(context, part="system").evaluate(largest)[0]
    assert system == (486038667264 + 1811302400) / 1e9


def test_bitops_and_macs_equal_loops(context, archs):
    bitops = Bitops(context).evaluate(archs)
    system = system_bitops(context, prompts=4).evaluate(archs)
    macs = Macs(context).evaluate(archs)
    bare = Macs(context, part="system", attention=False).evaluate(archs)
    for i, arch in enumerate(archs):
        rows = layers(context, arch)
        once = [x for x in rows if not x.per_prompt]
        assert bitops[i] == sum(x.macs * x.w_bits * x.a_bits for x in once) / 1e9
        assert system[i] == pytest.approx(
            sum(x.macs * x.w_bits * x.a_bits * (4 if x.per_prompt else 1) for x in rows) / 1e9
        )
        assert macs[i] == sum(x.macs for x in once) / 1e9
        dense = [x for x in rows if x.kind != "matmul" or x.per_prompt]
        assert bare[i] == sum(x.macs for x in dense) / 1e9


def test_size_and_peak_equal_loops(context, archs):
    size, encoder = (ModelSize(context, part=p).evaluate(archs) for p in ("system", "encoder"))
    peak = PeakMemory(context).evaluate(archs)
    for i, arch in enumerate(archs):
        rows = layers(context, arch)
        each = [-(-x.weight_elems * x.w_bits // 8) + 4 * (x.scales + x.bias_elems) for x in rows]
        once = [b for x, b in zip(rows, each, strict=True) if not x.per_prompt]
        assert size[i] == sum(each)
        assert encoder[i] == sum(once)
        assert peak[i] == max(
            (
                x.in_elems * x.a_bits
                + x.extra_in_elems * x.w_bits
                + x.out_elems * x.out_bits
                + x.held_bits
            )
            / 8
            for x in rows
        )


def test_narrower_weights_are_smaller_and_cheaper(context):
    space = context.space
    values = {}
    for bits in (8, 4, 3, 2):
        genes = dict(space.largest().genes)
        genes |= {name: bits for name in genes if name.endswith(".w_bits")}
        arch = [space.arch(genes)]
        values[bits] = (
            Bitops(context).evaluate(arch)[0],
            ModelSize(context).evaluate(arch)[0],
            Macs(context).evaluate(arch)[0],
        )
    for wide, narrow in ((8, 4), (4, 3), (3, 2)):
        assert values[narrow][0] < values[wide][0]
        assert values[narrow][1] < values[wide][1]
        assert values[narrow][2] == values[wide][2]


def test_breakdowns_add_up(context, archs):
    for model in (Bitops(context), Macs(context), ModelSize(context), system_bitops(context)):
        parts = model.breakdown(archs[0])
        assert sum(parts.values()) == pytest.approx(model.evaluate(archs[:1])[0])
        assert any(part.startswith("blocks.") for part in parts)


def test_the_window_copies_of_padding_are_in_the_peak():
    space = sam_vit_b()
    context = CostContext(space)
    peak = PeakMemory(context).evaluate([space.largest()])[0]
    # the softmax of a global block: scores in fp16, probabilities in 8 bit, two relative terms,
    # values in 8 bit and the residual stream in fp16 that wait
    scores, relative = 12 * 4096**2, 12 * 4096 * 64
    waiting = 4096 * 768 * (8 + 16)
    expected = (scores * 16 + 2 * relative * 16 + scores * 8 + waiting) / 8
    assert peak == expected


def test_a_network_without_prompts_has_one_value_for_both_parts():
    space = mobile_cnn()
    context = CostContext(space)
    archs = space.sample(np.random.default_rng(0), 5)
    encoder, system = (Bitops(context, part=p).evaluate(archs) for p in ("encoder", "system"))
    assert encoder.tolist() == system.tolist()


@pytest.mark.parametrize("model", [Bitops, Macs, ModelSize, PeakMemory])
def test_an_unknown_part_is_refused(context, model):
    with pytest.raises(CostError, match="part='decoder'; expected one of"):
        build(model, context, part="decoder")


def test_names_follow_the_part(context):
    assert Bitops(context).name == "bitops"
    assert system_bitops(context).name == "system_bitops"
    assert (
        system_bitops(context).estimate([]).model_version == "bitops-1 part=system decoder_runs=1"
    )
