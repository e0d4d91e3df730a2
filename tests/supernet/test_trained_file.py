"""A trained supernet in its file: adapters, changed tensors, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hwnas.errors import CheckpointError, HwnasError, PluginError
from hwnas.supernet.checkpoint import load_sam, read_metadata, save_weights
from hwnas.supernet.encoder_order import sort_encoder
from hwnas.supernet.sam_supernet import SamSupernet, build
from hwnas.supernet.scale_table import ScaleTable
from tests.supernet.elastic_models import relative_error
from tests.supernet.trained_nets import (
    FLOAT,
    GEOMETRY,
    PLAN,
    Weights,
    an_order,
    save_net,
    trained_net,
)


@pytest.mark.parametrize("layout", ["multiplex", "selective", "none"])
def test_a_trained_supernet_survives_its_file(
    tmp_path: Path, base: Path, scales: Weights, layout: str
) -> None:
    net = trained_net(base, scales, layout)
    path = save_net(net, base, tmp_path / "net.safetensors", with_base=layout == "selective")
    read = build(path, base=None if layout == "selective" else base)
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(5))
    # float16 moves weights by 5e-4 of themselves, and a few codes at 4 bits with them.
    assert relative_error(read.embed(image, FLOAT), net.embed(image, FLOAT)) < 1e-3
    assert relative_error(read.embed(image, PLAN), net.embed(image, PLAN)) < 0.05
    assert (read.encoder.adapters is None) == (layout == "none")
    own, other = net.sam.state_dict(), read.sam.state_dict()
    errors = {n: relative_error(other[n], own[n]) for n in own if own[n].any()}
    assert max(errors.values()) < 5e-3  # decoder: 8 bits per channel
    again = save_net(read, base, tmp_path / "again.safetensors", with_base=layout == "selective")
    assert read_metadata(again)["hash"] == read_metadata(path)["hash"]
    assert torch.equal(build(again, base=base).embed(image, PLAN), read.embed(image, PLAN))


def test_only_what_was_trained_is_stored(tmp_path: Path, base: Path, scales: Weights) -> None:
    net = trained_net(base, scales, "multiplex")
    path = save_net(net, base, tmp_path / "net.safetensors")
    with safe_open(str(path), framework="pt") as file:
        tuned = {name for name in file.keys() if name.startswith("tuned.")}
        types = {name: file.get_tensor(name).dtype for name in file.keys()}
    assert all("norm1" in name or "mask_decoder" in name for name in tuned)
    assert {t for n, t in types.items() if n.startswith("adapters.")} == {torch.float16}
    assert types["adapters.blocks.0.qkv.base.A"] == torch.float16
    metadata = read_metadata(path)
    assert json.loads(metadata["adapters"])["layout"]["name"] == "multiplex"
    assert json.loads(metadata["notes"]) == {"seed": 1}
    bank = net.encoder.adapters
    assert bank is not None
    elements = sum(p.numel() for p in bank.parameters())
    assert path.stat().st_size < 2.1 * elements + 6e6


def test_options_of_the_scales_come_back(tmp_path: Path, base: Path, scales: Weights) -> None:
    net = trained_net(base, scales, "shared", activation="batch", centered=True)
    read = build(save_net(net, base, tmp_path / "net.safetensors"), base=base)
    assert read.encoder.scales.options == {
        "relative": False, "activation": "batch", "centered": True, "per_tensor": False,
    }  # fmt: skip


def test_an_untrained_supernet_keeps_the_first_format(
    tmp_path: Path, base: Path, scales: Weights
) -> None:
    sam = load_sam(base)
    sort_encoder(sam.image_encoder, an_order(), GEOMETRY)
    net = SamSupernet(sam, scales=ScaleTable(scales), order=an_order())
    path = save_net(net, base, tmp_path / "net.safetensors")
    assert read_metadata(path)["format"] == "hwnas-supernet-1"
    assert "hash" not in read_metadata(path)


def _without_a_tensor(tensors: Weights, metadata: dict[str, str]) -> None:
    del tensors["adapters.blocks.0.qkv.base.A"]


def _with_a_changed_value(tensors: Weights, metadata: dict[str, str]) -> None:
    tensors["adapters.blocks.0.qkv.base.A"][0, 0] += 1


def _of_an_unknown_kind(tensors: Weights, metadata: dict[str, str]) -> None:
    metadata["adapters"] = metadata["adapters"].replace('"lora"', '"wavelet"')


def _of_a_future_format(tensors: Weights, metadata: dict[str, str]) -> None:
    metadata["format"] = "hwnas-supernet-9"


def _of_another_rank(tensors: Weights, metadata: dict[str, str]) -> None:
    metadata["adapters"] = metadata["adapters"].replace('"rank": 4', '"rank": 8')


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (_without_a_tensor, CheckpointError, "hash differs"),
        (_with_a_changed_value, CheckpointError, "hash differs"),
        (_of_an_unknown_kind, PluginError, r"net\.safetensors: .*'wavelet'.*known: .*lora"),
        (_of_a_future_format, CheckpointError, "hwnas-supernet-9.*expected a supernet file"),
        (_of_another_rank, CheckpointError, r"lora adapters have .* wrong tensors.*\(4, 192\)"),
    ],
)
def test_damaged_files_are_refused(
    tmp_path: Path,
    base: Path,
    scales: Weights,
    damage: Callable[[Weights, dict[str, str]], None],
    error: type[HwnasError],
    message: str,
) -> None:
    path = save_net(trained_net(base, scales, "shared"), base, tmp_path / "net.safetensors")
    tensors, metadata = load_file(path), read_metadata(path)
    damage(tensors, metadata)
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(error, match=message):
        build(path, base=base)


def test_other_base_weights_are_refused(tmp_path: Path, base: Path, scales: Weights) -> None:
    path = save_net(trained_net(base, scales, "shared"), base, tmp_path / "net.safetensors")
    weights = load_sam(base).state_dict()
    weights["image_encoder.pos_embed"] += 1
    other = save_weights(tmp_path / "o.safetensors", weights, metadata={"geometry": GEOMETRY.name})
    with pytest.raises(CheckpointError, match="prepared for other weights"):
        build(path, base=other)
