from __future__ import annotations

import numpy as np
import pytest

from hwnas.measure.kernels import packing
from hwnas.measure.kernels.isa import PORTABLE, Isa

WIDE = Isa("wide", 16, 32, "vpdpbusd")


@pytest.mark.parametrize("isa", [WIDE, PORTABLE])
@pytest.mark.parametrize("bits", packing.WIDTHS)
def test_packed_codes_take_as_many_bytes_as_said(isa: Isa, bits: int) -> None:
    codes = np.random.default_rng(0).integers(-(1 << bits - 1), 1 << bits - 1, (37, 21))
    packed = packing.pack_codes(isa, codes, bits)
    assert packed.dtype == np.int8
    assert packed.size == packing.packed_bytes(isa, 37, 21, bits)


@pytest.mark.parametrize("bits", packing.WIDTHS)
def test_packing_keeps_a_weight_near_its_bits(bits: int) -> None:
    size = packing.packed_bytes(WIDE, 768, 768, bits)
    assert size == 768 * 768 * bits // 8


def test_eight_bit_codes_lie_in_fours_of_depth() -> None:
    codes = np.arange(8 * 16).reshape(8, 16) - 64
    packed = packing.pack_codes(WIDE, codes, 8).reshape(2, 16, 4)
    assert (packed[1, 3] == codes[4:8, 3]).all()


def test_four_bit_codes_share_a_byte_with_the_next_four() -> None:
    codes = np.zeros((8, 16), np.int64)
    codes[1, 2], codes[5, 2] = -3, 7
    byte = int(packing.pack_codes(WIDE, codes, 4).view(np.uint8).reshape(16, 4)[2, 1])
    assert byte & 15 == -3 & 15
    assert byte >> 4 == 7


def test_float_panels_are_padded_with_zeros() -> None:
    weight = np.ones((3, 20), np.float32)
    packed = packing.pack_floats(WIDE, weight).reshape(2, 3, 16)
    assert (packed[1, :, :4] == 1).all()
    assert not packed[1, :, 4:].any()
