"""Which supernet a plain checkpoint gets: the one beside it, the shipped one, or none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwnas.errors import CheckpointError
from hwnas.supernet import checkpoint
from hwnas.supernet.checkpoint import load_sam, save_weights
from hwnas.supernet.sam_supernet import SamSupernet, build
from hwnas.workflows.pack import pack_supernet
from tests.supernet.trained_nets import (
    PLAN,
    Weights,
    save_net,
    scales_of,
    trained_net,
    write_base,
)

IMAGE = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, and two supernets of it that differ: `a`, and `b` which holds the base as well."""
    folder = tmp_path_factory.mktemp("made")
    base = write_base(folder / "base.safetensors")
    scales: Weights = scales_of(base)
    save_net(trained_net(base, scales, "shared"), base, folder / "a.safetensors")
    save_net(trained_net(base, scales, "none"), base, folder / "b.safetensors", with_base=True)
    return folder


@pytest.fixture
def base(made: Path, tmp_path: Path) -> Path:
    path = tmp_path / "own" / "base.safetensors"
    path.parent.mkdir()
    path.hardlink_to(made / "base.safetensors")
    return path


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of what ships."""
    folder = tmp_path / "assets"
    folder.mkdir()
    monkeypatch.setattr(checkpoint, "_ASSETS", folder)
    return folder


@pytest.fixture
def shipped(made: Path, assets: Path) -> Path:
    """Adapters that ship without their base."""
    out = assets / "sam_vit_t_supernet.safetensors.gz"
    return pack_supernet(made / "a.safetensors", out=out)


def _same(found: SamSupernet, wanted: SamSupernet) -> bool:
    return torch.equal(found.embed(IMAGE, PLAN), wanted.embed(IMAGE, PLAN))


def test_the_shipped_adapters_serve_the_base_that_they_belong_to(base: Path, shipped: Path) -> None:
    assert _same(build(base), build(shipped, base=base))


def test_a_base_in_another_form_is_the_same_base(base: Path, shipped: Path, tmp_path: Path) -> None:
    packed = save_weights(tmp_path / "other.safetensors.gz", load_sam(base).state_dict())
    assert _same(build(packed), build(base))


@pytest.mark.parametrize("ending", [".safetensors", ".safetensors.gz"])
def test_the_supernet_beside_comes_first(
    base: Path, shipped: Path, made: Path, ending: str
) -> None:
    beside = base.with_name(f"base_supernet{ending}")
    if ending == ".safetensors":
        beside.hardlink_to(made / "b.safetensors")
        assert _same(build(base), build(made / "b.safetensors"))  # with the base that it holds
    else:
        pack_supernet(made / "b.safetensors", out=beside)
        assert _same(build(base), build(beside, base=base))
    assert not _same(build(base), build(shipped, base=base))


def test_a_supernet_beside_that_belongs_to_other_weights_is_refused(
    base: Path, shipped: Path, made: Path
) -> None:
    other = write_base(base.with_name("other.safetensors"), seed=1)
    other.with_name("other_supernet.safetensors").hardlink_to(made / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"other_supernet.*prepared for other weights than"):
        build(other)
    other.with_name("base_supernet.safetensors").hardlink_to(made / "base.safetensors")
    with pytest.raises(CheckpointError, match="expected a supernet file"):
        build(base)


def test_another_base_runs_in_floating_point_and_says_whose_the_adapters_are(
    tmp_path: Path, shipped: Path, assets: Path
) -> None:
    net = build(write_base(tmp_path / "other.safetensors", seed=1))
    assert torch.isfinite(net.teacher(IMAGE)).all()
    said = (
        r"has no scale .*the adapters that ship for sam-vit-t belong to another base \([0-9a-f]{12}"
        r", this one is [0-9a-f]{12}\): make that base with `hwnas convert.* or `hwnas prepare"
    )
    with pytest.raises(CheckpointError, match=said):
        net.embed(IMAGE, PLAN)
    write_base(assets / "sam_vit_t.safetensors")
    with pytest.raises(CheckpointError, match="name sam-vit-t instead of a file"):
        build(tmp_path / "other.safetensors").embed(IMAGE, PLAN)


def test_without_a_shipped_supernet_nothing_is_said_of_it(base: Path, assets: Path) -> None:
    with pytest.raises(CheckpointError, match=r"bit-width\); `hwnas prepare CHECKPOINT"):
        build(base).embed(IMAGE, PLAN)


def test_the_name_of_a_model_whose_base_does_not_ship_says_how_to_make_it(shipped: Path) -> None:
    with pytest.raises(CheckpointError, match="sam-vit-t: no weights are shipped under this name"):
        build("sam-vit-t")
