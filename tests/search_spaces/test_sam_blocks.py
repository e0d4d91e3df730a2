"""The space of blocks: sizes, layers, and what the teacher's options cost."""

import numpy as np
import pytest

from hwnas.blocks import option_of, slot_gene, teacher_option
from hwnas.cost import CostContext, build
from hwnas.cost.lowering import lower
from hwnas.workload.sam import GEOMETRIES, EncoderPlan, encoder_layers
from search_spaces.sam_blocks import sam_vit_t_blocks

SLOTS = 4


@pytest.fixture(scope="module")
def space():
    return sam_vit_t_blocks()


def one_of(space, block):
    return space.arch({slot_gene(slot): block for slot in range(SLOTS)})


def test_it_has_108_options_in_each_of_four_slots(space):
    assert space.size() == 108**4
    assert [gene.name for gene in space.variables] == [slot_gene(slot) for slot in range(SLOTS)]


def test_the_last_option_everywhere_is_the_teacher(space):
    geometry = GEOMETRIES["sam-vit-t"]
    teacher = one_of(space, teacher_option(geometry).name)
    assert space.largest() == teacher
    plan = EncoderPlan.uniform(geometry, resolution=256)
    expected = sum(layer.macs for layer in encoder_layers(plan))
    found = sum(layer.macs for layer in lower(space, teacher).layers if not layer.per_prompt)
    assert found == expected


@pytest.mark.parametrize(
    ("fewer", "more"),
    [
        ("vit-d3-r4-w8a8", "vit-d3-r4-fp16"),
        ("vit-d2-r4-w8a8", "vit-d3-r4-w8a8"),
        ("vit-d3-r3-w8a8", "vit-d3-r4-w8a8"),
        ("window-d3-r4-w8a8", "vit-d3-r4-w8a8"),
        ("conv-d3-r4-w8a8", "window-d3-r4-w8a8"),
        ("vit-d3-r4-w4a8", "vit-d3-r4-w8a8"),
    ],
)
def test_each_axis_saves_work(space, fewer, more):
    bitops = build("cost_models.bitops:Bitops", CostContext(space))
    low, high = bitops.evaluate([one_of(space, fewer), one_of(space, more)])
    assert low < high


def test_slots_are_priced_by_themselves(space):
    archs = space.sample(np.random.default_rng(0), 20)
    bitops = build("cost_models.bitops:Bitops", CostContext(space)).evaluate(archs)
    looped = [
        sum(x.macs * x.w_bits * x.a_bits for x in lower(space, arch).layers if not x.per_prompt)
        for arch in archs
    ]
    assert bitops == pytest.approx(np.array(looped) / 1e9)


def test_layers_are_named_after_their_slot(space):
    arch = space.sample(np.random.default_rng(1), 1)[0]
    layers = lower(space, arch).layers
    assert len({layer.name for layer in layers}) == len(layers)
    for slot in range(SLOTS):
        depth = option_of(str(arch[slot_gene(slot)])).depth
        groups = {x.group for x in layers if x.group.startswith(f"slots.{slot}.")}
        assert groups == {f"slots.{slot}.{number}" for number in range(depth)}
