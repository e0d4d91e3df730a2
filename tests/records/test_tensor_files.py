"""Names of files of tensors, and what gzip makes of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from hwnas.errors import ConfigError
from hwnas.records.tensor_files import (
    check_tensor_name,
    file_beside,
    gunzip_tensors,
    gzip_tensors,
    is_gzipped,
    is_tensor_file,
    metadata_of,
    stem_of,
    tensor_file,
)


@pytest.mark.parametrize(
    ("name", "stem", "tensors", "packed"),
    [
        ("x.safetensors", "x", True, False),
        ("x.safetensors.gz", "x", True, True),
        ("x.y.safetensors.gz", "x.y", True, True),
        ("x.pth", "x", False, False),
        ("x.jsonl.gz", "x.jsonl", False, False),
    ],
)
def test_a_name_says_what_a_file_is(name: str, stem: str, tensors: bool, packed: bool) -> None:
    path = Path("folder") / name
    assert (stem_of(path), is_tensor_file(path), is_gzipped(path)) == (stem, tensors, packed)
    if tensors:
        check_tensor_name(path)
    else:
        with pytest.raises(ConfigError, match=r"ends in \.safetensors or \.safetensors\.gz"):
            check_tensor_name(path)


@pytest.mark.parametrize("base", ["x.safetensors", "x.safetensors.gz", "x.pth"])
def test_what_lies_beside_may_have_either_ending(tmp_path: Path, base: str) -> None:
    assert file_beside(tmp_path / base, "supernet") is None
    packed, plain = (tmp_path / f"x_supernet.safetensors{e}" for e in (".gz", ""))
    packed.touch()
    assert file_beside(tmp_path / base, "supernet") == packed
    plain.touch()
    assert file_beside(tmp_path / base, "supernet") == plain
    assert tensor_file(tmp_path / "y") is None


def test_gzip_is_lossless_and_depends_on_nothing_else(tmp_path: Path) -> None:
    tensors = {name: torch.randn(20, 30) for name in "cab"}
    metadata = {key: "value" for key in "geometry format notes hash base_hash".split()}
    packed = {gzip_tensors(save(tensors, metadata)) for _ in range(20)}
    assert len(packed) == 1  # the library writes metadata in any order
    path = tmp_path / "x.safetensors.gz"
    path.write_bytes(packed.pop())
    assert path.read_bytes()[3:8] == bytes(5)  # no name, no time
    found = load(gunzip_tensors(path))
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    assert metadata_of(path) == metadata


def test_metadata_are_read_without_unpacking_the_tensors(tmp_path: Path) -> None:
    """The rest of the file is missing, and nobody notices."""
    tensors = {"x": torch.randint(0, 256, (1 << 20,), dtype=torch.uint8)}
    path = tmp_path / "x.safetensors.gz"
    path.write_bytes(gzip_tensors(save(tensors, {"format": "y"}))[: 1 << 18])
    assert metadata_of(path) == {"format": "y"}
    with pytest.raises(EOFError):
        gunzip_tensors(path)


@pytest.mark.parametrize(
    "content", [b"\xff" * 40, b"\x00" * 8, b"\x08" + b"\x00" * 7 + b"no json."]
)
def test_packed_nonsense_has_no_metadata(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(ValueError, match=r"header would have|Expecting value"):
        metadata_of(path)
