"""Headline figures of an arch."""

import numpy as np
import pytest

from hwnas.cost.bitops_report import bitops_report
from hwnas.errors import CostError
from hwnas.workload import GEOMETRIES
from search_spaces.sam import sam_space, sam_vit_b

FP16_DECODER_AT_1024 = 1811302400 * 256


@pytest.fixture(scope="module")
def space():
    return sam_vit_b()


def test_the_largest_arch_in_w8a8(space):
    report = bitops_report(space, space.largest(), prompts=3)
    assert report.macs == 486038667264
    windowed = 25 * (2 * 196**2 * 768 + 2 * 196 * 14 * 768)
    whole = 2 * 4096**2 * 768 + 2 * 4096 * 64 * 768
    assert report.macs_without_attention == report.macs - 8 * windowed - 4 * whole
    assert report.encoder_bitops == 31106474704896
    assert report.system_bitops == 31106474704896 + 3 * FP16_DECODER_AT_1024
    # plain W8A8 saves 93.75 % against fp32, 75 % against fp16, and nothing against itself
    assert report.encoder_reductions.fp32 == 0.9375
    assert report.encoder_reductions.fp16 == 0.75
    assert report.encoder_reductions.w8a8 == 0.0


def test_a_system_reduction_has_the_decoder_in_the_baseline(space):
    report = bitops_report(space, space.largest(), prompts=2)
    baseline = (486038667264 + 2 * 1811302400) * 1024
    assert report.system_reductions.fp32 == pytest.approx(1 - report.system_bitops / baseline)


def test_a_w8a8_decoder_is_a_quarter():
    geometry = GEOMETRIES["sam-vit-t"]
    half, eighth = sam_space(geometry), sam_space(geometry, decoder_bits=8)
    decoders = [
        report.system_bitops - report.encoder_bitops
        for report in (bitops_report(space, space.smallest()) for space in (half, eighth))
    ]
    assert decoders[0] == 4 * decoders[1]


def test_element_operations_are_apart(space):
    arch = space.sample(np.random.default_rng(0), 1)[0]
    one, two = (bitops_report(space, arch, prompts=n) for n in (1, 2))
    assert two.element_ops > one.element_ops > 0
    assert two.encoder_bitops == one.encoder_bitops


@pytest.mark.parametrize("prompts", [0, -1, 1.5, True])
def test_impossible_prompts(space, prompts):
    with pytest.raises(CostError, match="expected a whole number from 1"):
        bitops_report(space, space.smallest(), prompts=prompts)
