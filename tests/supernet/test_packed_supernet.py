"""A trained supernet made small: what is rounded, by how much, and what is not touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hwnas.cli.app import app
from hwnas.errors import CheckpointError, ConfigError
from hwnas.supernet.checkpoint import (
    load_sam,
    read_metadata,
    read_stored,
    read_tensors,
    save_weights,
)
from hwnas.supernet.encoder_order import sort_encoder
from hwnas.supernet.packing import round_mantissa, unpack
from hwnas.supernet.sam_supernet import SamSupernet, build
from hwnas.supernet.scale_table import ScaleTable
from hwnas.supernet.supernet_file import read_supernet_file
from hwnas.supernet.trained_tensors import pack_adapters
from hwnas.workflows.pack import pack_file, pack_model, pack_supernet
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


@pytest.fixture(scope="module")
def net(base: Path, scales: Weights) -> SamSupernet:
    return trained_net(base, scales, "multiplex")


@pytest.fixture(scope="module")
def source(net: SamSupernet, base: Path) -> Path:
    return save_net(net, base, base.with_name("trained.safetensors"), with_base=True)


@pytest.fixture(scope="module")
def packed(source: Path) -> Path:
    return pack_supernet(source, out=source.with_name("packed.safetensors.gz"))


def test_a_packed_supernet_is_a_supernet_file_for_the_same_base(
    source: Path, packed: Path, base: Path, net: SamSupernet
) -> None:
    before, after = read_supernet_file(source), read_supernet_file(packed)  # checks the hash
    assert after.base_hash == before.base_hash
    assert after.base_weights is None
    assert (after.notes, after.trained.config()) == (before.notes, before.trained.config())
    assert read_metadata(packed)["format"] == "hwnas-supernet-2"
    assert read_metadata(packed)["hash"] != read_metadata(source)["hash"]
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(5))
    read = build(packed, base=base)
    assert relative_error(read.embed(image, FLOAT), net.embed(image, FLOAT)) < 0.01
    assert relative_error(read.embed(image, PLAN), net.embed(image, PLAN)) < 0.1


def test_adapters_are_within_half_a_step_of_their_rank(source: Path, packed: Path) -> None:
    before, after, stored = read_tensors(source), read_tensors(packed), read_stored(packed)
    factors = [name for name in before if name.startswith("adapters.")]
    assert {stored[f"{name}::int8"].dtype for name in factors} == {torch.int8}
    for name in factors:
        rank = {"A": 0, "B": 1}[name[-1]]
        assert before[name].shape[rank] == 4
        step = before[name].abs().amax(dim=1 - rank, keepdim=True) / 127
        assert stored[f"{name}::scale"].shape == step.shape
        assert ((after[name] - before[name]).abs() <= 0.501 * step).all(), name


def test_a_rank_that_is_small_keeps_its_digits() -> None:
    """With one scale a tensor, or one for each output, the second rank would vanish."""
    a = torch.randn(2, 64) * torch.tensor([[1.0], [1e-4]])
    found = unpack(pack_adapters({"adapters.x.base.A": a, "adapters.x.base.B": a.T.contiguous()}))
    assert relative_error(found["adapters.x.base.A"][1], a[1]) < 0.01
    assert relative_error(found["adapters.x.base.B"][:, 1], a[1]) < 0.01


def test_scales_keep_ten_bits_and_all_else_is_equal(source: Path, packed: Path) -> None:
    before, after = read_stored(source), read_stored(packed)
    assert {n.partition(".")[0] for n in after} == {"order", "scales", "adapters", "tuned"}
    for name, value in before.items():
        if name.startswith(("order.", "tuned.")):
            assert torch.equal(after[name], value), name
        elif name.startswith("scales."):
            found = after[name].float()
            assert ((found - value).abs() <= 2.0**-11 * value.abs()).all() or not value.any()
            assert not (found.view(torch.int32) & 0x1FFF).any(), name


def test_rounding_keeps_what_it_cannot_round() -> None:
    tiny, largest = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
    odd = torch.tensor([0.0, -0.0, tiny / 3, float("inf"), largest, 5e-9, -1.0000001, 3e-8])
    found = round_mantissa(odd)
    assert torch.equal(found[:5], odd[:5])
    assert ((found[5:] - odd[5:]).abs() <= 2.0**-11 * odd[5:].abs()).all()
    assert found[6] == -1
    assert found.dtype == torch.float32  # 5e-9 is none of float16's numbers
    assert round_mantissa(torch.tensor([0.1, 2**-24])).dtype == torch.float16
    assert round_mantissa(torch.tensor([1.0, 2**-20])).tolist() == [1.0, 2**-20]
    integers = torch.tensor([12345], dtype=torch.int16)
    assert round_mantissa(integers) is integers


def test_packing_twice_changes_nothing_more(packed: Path, tmp_path: Path) -> None:
    again = pack_supernet(packed, out=tmp_path / "again.safetensors.gz")
    assert again.read_bytes() == packed.read_bytes()


def test_other_adapters_keep_what_is_not_made_of_ranks() -> None:
    tensors = {
        "adapters.x.base.A": torch.randn(4, 32).half(),
        "adapters.x.base.B": torch.randn(32, 4).half(),
        "adapters.x.base.magnitude": torch.randn(32).half(),
        "adapters.x.base.indices": torch.randint(0, 9, (2, 8), dtype=torch.int32),
        "adapters.x.base.cell.mix": torch.randn(4, 4).half(),
        "adapters.y.base.B": torch.randn(3, 4, 8).half(),  # foura: parts, ranks, spectrum
        "tuned.neck.A": torch.randn(4, 32).half(),
    }
    packed = pack_adapters(tensors)
    rounded = {name for name in tensors if name not in packed}
    assert rounded == {"adapters.x.base.A", "adapters.x.base.B"}
    assert all(torch.equal(packed[n], tensors[n]) for n in tensors if n not in rounded)


def test_a_supernet_with_other_adapters_is_packed(
    base: Path, scales: Weights, tmp_path: Path
) -> None:
    net = trained_net(base, scales, "shared", kind="dora")
    source = save_net(net, base, tmp_path / "net.safetensors")
    out = pack_supernet(source, out=tmp_path / "small.safetensors.gz")
    assert out.stat().st_size < source.stat().st_size
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(5))
    found, wanted = build(out, base=base), build(source, base=base)
    assert relative_error(found.embed(image, FLOAT), wanted.embed(image, FLOAT)) < 0.01


def test_an_untrained_supernet_keeps_the_first_format(
    base: Path, scales: Weights, tmp_path: Path
) -> None:
    sam = load_sam(base)
    sort_encoder(sam.image_encoder, an_order(), GEOMETRY)
    plain = SamSupernet(sam, scales=ScaleTable(scales), order=an_order())
    source = save_net(plain, base, tmp_path / "ptq.safetensors", with_base=True)
    out = pack_supernet(source, out=tmp_path / "small.safetensors")
    assert read_metadata(out)["format"] == read_metadata(source)["format"] == "hwnas-supernet-1"
    assert read_supernet_file(out).base_weights is None


def test_the_kind_of_file_decides(source: Path, packed: Path, base: Path, tmp_path: Path) -> None:
    by_command = tmp_path / "a.safetensors.gz"
    done = CliRunner().invoke(app, ["pack", str(source), "--out", str(by_command)])
    assert done.exit_code == 0, done.output
    assert by_command.read_bytes() == packed.read_bytes()
    head = pack_file(base, out=tmp_path / "head.safetensors.gz", head_only=True)
    assert not any(".blocks." in name for name in read_tensors(head))
    whole = pack_file(base, out=tmp_path / "whole.safetensors.gz")
    assert read_tensors(whole).keys() == read_tensors(base).keys()


def test_bad_requests_and_damaged_files_are_refused(
    source: Path, base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"is a supernet.*leave --head-only out"):
        pack_file(source, out=tmp_path / "x.safetensors", head_only=True)
    with pytest.raises(ConfigError, match=r"ends in \.safetensors or \.safetensors\.gz"):
        pack_file(source, out=tmp_path / "x.pth")
    for pack in (pack_file, pack_supernet, pack_model):
        with pytest.raises(ConfigError, match="same file"):
            pack(source, out=source)
    with pytest.raises(CheckpointError, match="expected a supernet file"):
        pack_supernet(base, out=tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        pack_file(tmp_path / "absent.safetensors", out=tmp_path / "x.safetensors")
    tensors = read_stored(source)
    tensors["adapters.blocks.0.qkv.base.A"] += 1
    damaged = save_weights(tmp_path / "d.safetensors", tensors, metadata=read_metadata(source))
    with pytest.raises(CheckpointError, match="hash differs"):
        pack_supernet(damaged, out=tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()
