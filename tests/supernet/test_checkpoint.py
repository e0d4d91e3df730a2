"""Weights on disk: exact, packed, truncated, of another shape, or not what they claim."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hwnas.errors import CheckpointError, RunError
from hwnas.supernet import checkpoint
from hwnas.supernet.checkpoint import (
    PUBLISHED,
    asset_path,
    load_sam,
    load_weights,
    read_metadata,
    read_tensors,
    save_weights,
)
from hwnas.supernet.packing import pack, unpack
from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.sam_supernet import build
from hwnas.supernet.supernet_file import hash_weights
from hwnas.workload.sam_geometry import GEOMETRIES, SamGeometry

TINY = replace(
    GEOMETRIES["sam-vit-t"], dim=32, depth=4, heads=2, global_blocks=(3,), resolutions=(128,)
)


def test_plain_weights_survive_the_round_trip(tmp_path: Path) -> None:
    sam = build_sam(TINY)
    path = save_weights(tmp_path / "m.safetensors", sam.state_dict(), metadata={"geometry": "x"})
    assert read_metadata(path) == {"geometry": "x"}
    again = load_sam(path, TINY)
    assert all(
        torch.equal(a, b)
        for a, b in zip(sam.state_dict().values(), again.state_dict().values(), strict=True)
    )
    assert not list(tmp_path.glob("*.part"))


def test_weights_packed_by_gzip_are_the_same_weights(tmp_path: Path) -> None:
    weights, metadata = build_sam(TINY).state_dict(), {"geometry": "x", "notes": "y"}
    for packed in (False, True):
        plain, zipped, again = (
            save_weights(tmp_path / name, weights, metadata=metadata, packed=packed)
            for name in ("m.safetensors", "m.safetensors.gz", "n.safetensors.gz")
        )
        assert zipped.stat().st_size < plain.stat().st_size
        assert zipped.read_bytes() == again.read_bytes()
        assert read_metadata(zipped) == metadata
        assert hash_weights(read_tensors(zipped)) == hash_weights(read_tensors(plain))
    assert load_sam(zipped, TINY).geometry is TINY
    assert not list(tmp_path.glob("*.part"))


def test_packed_weights_are_within_half_a_step_and_four_times_smaller(tmp_path: Path) -> None:
    weights = build_sam(TINY).state_dict()
    packed = save_weights(tmp_path / "p.safetensors", weights, packed=True)
    plain = save_weights(tmp_path / "f.safetensors", weights)
    assert packed.stat().st_size < 0.3 * plain.stat().st_size
    found = read_tensors(packed)
    assert found.keys() == weights.keys()
    for key, value in weights.items():
        assert found[key].dtype == torch.float32
        channel = 1 if key.startswith("mask_decoder.output_upscaling") and value.ndim == 4 else 0
        others = [d for d in range(value.ndim) if d != channel]
        step = value.abs().amax(others, keepdim=True) / 127 if others else value.abs()
        assert ((found[key] - value).abs() <= step * 0.501 + value.abs() * 1e-3).all(), key


def test_packing_keeps_what_it_cannot_round() -> None:
    tensors = {
        "zero.weight": torch.zeros(64, 128),
        "huge": torch.tensor([1e6]),
        "count": torch.tensor([3]),
        "pos_embed": torch.rand(1, 16, 16, 32) + 0.5,  # float16 rounds what is near zero by more
    }
    found = unpack(pack(tensors))
    assert (found["zero.weight"] == 0).all()
    assert found["huge"] == 1e6
    assert found["count"].dtype == torch.int64
    assert torch.allclose(found["pos_embed"], tensors["pos_embed"], rtol=1e-3)
    with pytest.raises(ValueError, match="without its scale"):
        unpack({"a::int8": torch.zeros(2, 2, dtype=torch.int8)})


def test_every_wrong_key_is_listed_at_once() -> None:
    sam = build_sam(TINY)
    weights = dict(sam.state_dict())
    weights["extra"] = torch.zeros(1)
    del weights["prompt_encoder.no_mask_embed.weight"]
    weights["image_encoder.patch_embed.proj.bias"] = torch.zeros(7)
    with pytest.raises(CheckpointError) as caught:
        load_weights(sam, weights, source="file.pth")
    text = str(caught.value)
    assert "3 problems" in text
    assert "prompt_encoder.no_mask_embed.weight: missing" in text
    assert "extra: unexpected" in text
    assert "image_encoder.patch_embed.proj.bias: shape (7,), expected (32,)" in text


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".safetensors.gz"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    weights = {"a": torch.randn(100, 100)}
    path = tmp_path / f"m{suffix}"
    if suffix == ".pth":
        torch.save(weights, path)
    else:
        save_weights(path, weights)
    whole = path.read_bytes()
    for size in (0, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="truncated"):
            read_tensors(path)
    path.write_bytes(whole[:20])
    if suffix != ".pth":
        with pytest.raises(CheckpointError, match="truncated"):
            read_metadata(path)


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "m.safetensors.gz", {"a": torch.randn(100, 100)})
    whole = bytearray(path.read_bytes())
    for damaged in (_flipped(whole, len(whole) // 2), _flipped(whole, -6), whole + b"more"):
        path.write_bytes(damaged)
        with pytest.raises(
            CheckpointError, match=r"m\.safetensors\.gz: .*expected safetensors pack"
        ):
            read_tensors(path)
    path.write_bytes(gzip.compress(b"no tensors"))
    for read in (read_tensors, read_metadata):
        with pytest.raises(CheckpointError, match="expected safetensors packed by gzip"):
            read(path)


def _flipped(content: bytes, place: int) -> bytes:
    found = bytearray(content)
    found[place] ^= 0xFF
    return bytes(found)


def test_a_name_that_lies_about_gzip_is_explained(tmp_path: Path) -> None:
    plain = save_weights(tmp_path / "m.safetensors", {"a": torch.zeros(9)})
    packed = save_weights(tmp_path / "n.safetensors.gz", {"a": torch.zeros(9)})
    not_packed, not_plain = tmp_path / "o.safetensors.gz", tmp_path / "p.safetensors"
    plain.rename(not_packed)
    packed.rename(not_plain)
    for read in (read_tensors, read_metadata):
        with pytest.raises(CheckpointError, match=r"which it is not: name it o\.safetensors$"):
            read(not_packed)
        with pytest.raises(CheckpointError, match=r"by gzip: name it p\.safetensors\.gz$"):
            read(not_plain)
        with pytest.raises(CheckpointError, match="no such file"):
            read(tmp_path / "absent.safetensors.gz")


def test_half_a_file_is_never_left_under_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_weights(tmp_path / "m.safetensors.gz", {"a": torch.zeros(9)})

    def full(content: bytes) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint, "gzip_tensors", full)
    with pytest.raises(RunError, match="no space"):
        save_weights(path, {"a": torch.ones(9)})
    assert torch.equal(read_tensors(path)["a"], torch.zeros(9))


def test_what_is_not_a_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds list"):
        read_tensors(tmp_path / "list.pth")

    class Surprise:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path(tmp_path / "ran").touch, ())

    torch.save({"a": Surprise()}, tmp_path / "code.pth")
    with pytest.raises(CheckpointError):
        read_tensors(tmp_path / "code.pth")
    assert not (tmp_path / "ran").exists()
    with pytest.raises(CheckpointError, match="no such file"):
        read_tensors(tmp_path / "absent.pth")


def test_a_file_with_a_published_name_must_be_that_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "sam_vit_b_01ec64.pth"
    path = tmp_path / name
    path.write_bytes(b"short")
    with pytest.raises(CheckpointError, match="5 bytes, the published file has 375042383"):
        load_sam(path)
    monkeypatch.setitem(PUBLISHED, name, ("sam-vit-b", 5, "0" * 64))
    with pytest.raises(CheckpointError, match="sha256"):
        load_sam(path)


@pytest.mark.parametrize("name", ["sam-vit-b", "sam-vit-l", "sam-vit-h"])
def test_official_layouts_have_the_published_keys_and_shapes(name: str) -> None:
    """Counts of tensors and parameters of the published files (spec of the SAM family)."""
    with torch.device("meta"):
        sam = build_sam(GEOMETRIES[name])
    state = sam.state_dict()
    depth, parameters = {
        "sam-vit-b": (12, 93_735_472),
        "sam-vit-l": (24, 312_342_832),
        "sam-vit-h": (32, 641_090_608),
    }[name]
    assert sum(p.numel() for p in sam.parameters()) == parameters
    per_block = sum(k.startswith("image_encoder.blocks.0.") for k in state)
    assert per_block == 14
    others = len(state) - depth * per_block
    assert others == 146
    head_dim = GEOMETRIES[name].head_dim
    assert state["image_encoder.blocks.0.attn.rel_pos_h"].shape == (27, head_dim)
    last = GEOMETRIES[name].global_blocks[-1]
    assert state[f"image_encoder.blocks.{last}.attn.rel_pos_w"].shape == (127, head_dim)
    assert state["image_encoder.pos_embed"].shape == (1, 64, 64, GEOMETRIES[name].dim)


def test_the_geometry_comes_from_the_width_where_nothing_states_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "GEOMETRIES", {"tiny": TINY})
    path = tmp_path / "own.pth"
    torch.save(build_sam(TINY).state_dict(), path)
    assert load_sam(path).geometry is TINY
    torch.save({"image_encoder.pos_embed": torch.zeros(1, 2, 2, 5)}, path)
    with pytest.raises(CheckpointError, match="is 5 wide"):
        load_sam(path)


def test_a_model_that_is_not_shipped_says_so() -> None:
    with pytest.raises(CheckpointError, match=r"under this name \(shipped: sam-vit-t\).*FILE$"):
        asset_path("sam-vit-h")
    with pytest.raises(CheckpointError, match=r"hwnas convert sam-vit-s --base BACKBONE"):
        asset_path("sam-vit-s")


def test_the_shipped_model_loads_and_is_small() -> None:
    sam = load_sam("sam-vit-t")
    geometry: SamGeometry = sam.geometry
    assert geometry is GEOMETRIES["sam-vit-t"]
    assert asset_path("sam-vit-t").stat().st_size < 12_000_000


def test_opening_a_checkpoint_leaves_the_random_state() -> None:
    before = torch.random.get_rng_state()
    load_sam("sam-vit-t")
    build("sam-vit-t")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["x.safetensors", "x.safetensors.gz"])
def test_what_cannot_be_written_leaves_nothing_behind(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(RunError, match="cannot write"):
        save_weights(tmp_path / name, {"a": torch.zeros(3)})
    assert [path.name for path in tmp_path.iterdir()] == [name]
