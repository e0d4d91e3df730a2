"""A subnet is written and read back equal to the bit, without its supernet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hwnas.errors import CheckpointError
from hwnas.export.code_packing import pack_codes
from hwnas.export.torch_form import DECODER, ENCODER, load_subnet, save_subnet
from tests.export.exported_models import float_plan, image_of, integer_plan, tiny_supernet


@pytest.mark.parametrize("plan", [integer_plan(), float_plan(64)], ids=["integer", "float"])
def test_a_subnet_comes_back_to_the_bit(plan: object, tmp_path: Path) -> None:
    net = tiny_supernet()
    save_subnet(net.subnet(plan), net.sam, tmp_path)
    image = image_of(net.resolution(plan))
    net.activate(plan)
    with torch.no_grad():
        expected = net(image)
    loaded = load_subnet(tmp_path)
    assert torch.equal(loaded.encoder(image), expected)
    assert loaded.encoder.plan == plan
    assert loaded.sam.geometry == net.geometry
    own = net.sam.state_dict()
    state = loaded.sam.state_dict()
    assert {name.partition(".")[0] for name in state} >= {"prompt_encoder", "mask_decoder"}
    assert all(torch.equal(value, own[name]) for name, value in state.items())


def test_weights_take_the_bits_that_they_have(tmp_path: Path) -> None:
    net = tiny_supernet()
    subnet = net.subnet(integer_plan())
    save_subnet(subnet, net.sam, tmp_path)
    stored = load_file(tmp_path / ENCODER)
    for name, bits in (
        ("blocks/1/qkv", 4),
        ("blocks/1/lin1", 3),
        ("blocks/0/qkv", 8),
        ("blocks/2/qkv", 2),
    ):
        count = subnet.get_buffer(
            f"{name.replace('/1/', '/1/')}/weight".replace("blocks/", "blocks/")
        )
        assert stored[f"{name}/weight"].numel() == -(-count.numel() * bits // 8)


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_codes_are_packed_without_loss(bits: int) -> None:
    rng = np.random.default_rng(bits)
    codes = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (7, 13)).astype(np.int8)
    codes[0, :2] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    packed = pack_codes(codes)
    assert packed.bits == bits
    assert len(packed.data) == -(-codes.size * bits // 8)
    assert np.array_equal(packed.unpack(), codes)


def test_the_odd_codes_of_the_centered_grid_take_two_bits() -> None:
    codes = np.array([[-3, -1, 1, 3], [3, 3, -3, 1]], np.int8)
    packed = pack_codes(codes)
    assert (packed.bits, packed.step) == (2, 2)
    assert np.array_equal(packed.unpack(), codes)


@pytest.mark.parametrize("codes", [np.zeros((0,), np.int8), np.full((3, 2), 5, np.int8)])
def test_empty_and_constant_codes(codes: np.ndarray) -> None:
    assert np.array_equal(pack_codes(codes).unpack(), codes)


@pytest.mark.parametrize("file", [ENCODER, DECODER])
def test_a_changed_weight_is_noticed(file: str, tmp_path: Path) -> None:
    net = tiny_supernet()
    save_subnet(net.subnet(integer_plan()), net.sam, tmp_path)
    path = tmp_path / file
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not those that were exported"):
        load_subnet(tmp_path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_subnet(tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / ENCODER)
    with pytest.raises(CheckpointError, match="not a file of hwnas export"):
        load_subnet(tmp_path)
