"""The base of a supernet is what it was before training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwnas.errors import CheckpointError
from hwnas.supernet.checkpoint import load_sam
from hwnas.supernet.sam_supernet import build, load_base, save_supernet


def test_the_base_of_a_shipped_supernet_is_not_what_was_trained() -> None:
    base, plain = load_base("sam-vit-t").state_dict(), load_sam("sam-vit-t").state_dict()
    assert all(torch.equal(base[name], plain[name]) for name in plain)
    tuned = build("sam-vit-t").sam.state_dict()
    norm = next(name for name in tuned if name.endswith("norm1.weight"))
    assert not torch.equal(base[norm], tuned[norm])


@pytest.mark.parametrize("with_base", [True, False])
def test_the_base_of_a_file(with_base: bool, tmp_path: Path) -> None:
    plain = load_sam("sam-vit-t").state_dict()
    out = tmp_path / "net.safetensors"
    save_supernet(build("sam-vit-t"), out, base_weights=plain, with_base=with_base)
    found = load_base(out).state_dict()
    for name in plain:
        assert torch.allclose(found[name], plain[name], atol=0.02), name


def test_a_plain_checkpoint_is_its_own_base(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_base(tmp_path / "missing.safetensors")
