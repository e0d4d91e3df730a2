"""Side networks saved and loaded, and features kept on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hwnas.errors import CheckpointError, RunError
from hwnas.supernet.side import files
from hwnas.supernet.side.encoder import SideEncoder
from hwnas.supernet.side.feature_cache import FeatureCache
from hwnas.supernet.side.features import SamBackbone, SubnetBackbone
from hwnas.supernet.side.files import load_side, read_notes, save_side
from hwnas.supernet.side.network import side_network
from tests.supernet.elastic_models import TINY, calibrated, mixed_plan, smooth_images
from tests.supernet.side.side_models import GEOMETRY, VARIANTS, pictures, shake, tiny_sam


@pytest.fixture(scope="module")
def sam() -> Any:
    return tiny_sam()


# The network


@pytest.mark.parametrize(("method", "options"), VARIANTS)
@torch.no_grad()
def test_a_loaded_network_gives_the_same_to_the_last_bit(
    sam: Any, tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    network, backbone = shake(side_network(GEOMETRY, method, **options)), SamBackbone(sam)
    save_side(network, tmp_path / "side", base=backbone.key, notes={"steps": 3})
    loaded = load_side(tmp_path / "side", base=backbone.key)
    images = pictures()
    assert torch.equal(
        SideEncoder(backbone, loaded)(images), SideEncoder(backbone, network)(images)
    )
    assert read_notes(tmp_path / "side") == {"steps": 3}
    (file,) = (tmp_path / "side").glob("*.safetensors")
    assert set(load_file(file)) == set(network.state_dict())  # nothing of the encoder


def test_a_kill_between_the_files_leaves_the_network_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (shake(side_network(GEOMETRY, "losa"), size) for size in (0.1, 0.2))
    save_side(first, tmp_path)

    def killed(path: Path, text: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "replace_text", killed)
        with pytest.raises(KeyboardInterrupt):
            save_side(second, tmp_path)
    before = load_side(tmp_path).state_dict()
    assert all(torch.equal(v, before[k]) for k, v in first.state_dict().items())
    save_side(second, tmp_path)
    after = load_side(tmp_path).state_dict()
    assert all(torch.equal(v, after[k]) for k, v in second.state_dict().items())
    assert len(list(tmp_path.iterdir())) == 2


def damage(folder: Path, **changes: Any) -> None:
    facts = json.loads((folder / "side.json").read_text())
    (folder / "side.json").write_text(json.dumps(facts | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "format 'other', expected"),
        ({"config": {"cell": "lstm"}}, "describes no side network .*lstm"),
        ({"config": None}, "describes no side network"),
        ({"geometry": {"name": "x"}}, "describes no side network"),
        ({"tensors": "../side.safetensors"}, "is no file of this folder"),
        ({"tensors": "gone.safetensors"}, "no such file"),
        ({"hash": "0"}, "hash differs"),
    ],
)
def test_damaged_descriptions_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save_side(side_network(GEOMETRY, "losa"), tmp_path)
    damage(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_side(tmp_path)


def test_damaged_tensors_and_other_bases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no side\.json"):
        load_side(tmp_path / "nowhere")
    save_side(side_network(GEOMETRY, "losa"), tmp_path, base="a" * 64)
    with pytest.raises(CheckpointError, match="beside another encoder"):
        load_side(tmp_path, base="b" * 64)
    (path,) = tmp_path.glob("*.safetensors")
    tensors = load_file(path)
    tensors["cells.0.down.weight"] += 1
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="hash differs"):
        load_side(tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_side(tmp_path)
    (tmp_path / "side.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_side(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        save_side(side_network(GEOMETRY, "losa"), tmp_path / "file")


# The features


@pytest.mark.parametrize(("method", "options"), VARIANTS)
@torch.no_grad()
def test_a_second_epoch_costs_no_encoder_pass(
    sam: Any, tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    network, backbone = shake(side_network(GEOMETRY, method, **options)), SamBackbone(sam)
    cache = FeatureCache(tmp_path, backbone, network, dtype=torch.float32)
    images = pictures(3)
    plain, cached = SideEncoder(backbone, network), SideEncoder(backbone, network, cache)
    direct = plain(images[:2])
    read, kept = plain.read(images[:2]), cache(images[:2])
    assert all(torch.equal(a, b) for a, b in zip(read.taps, kept.taps, strict=True))
    assert torch.equal(read.last, kept.last)
    assert cache.encoded == 2
    torch.testing.assert_close(cached(images[:2]), direct, rtol=1e-5, atol=1e-5)  # other strides
    assert cache.encoded == 2
    again = FeatureCache(tmp_path, backbone, network, dtype=torch.float32)
    found = SideEncoder(backbone, network, again)(images[[1, 2, 0]])
    assert again.encoded == 1
    torch.testing.assert_close(found[[2, 0]], direct, rtol=1e-5, atol=1e-5)  # other batches
    stored = load_file(next(again.folder.iterdir()))
    assert set(stored) - {"last"} == {f"tap.{b}" for b in network.blocks}
    assert ("last" in stored) == network.embeds


@torch.no_grad()
def test_half_precision_rounds_the_first_epoch_like_the_second(sam: Any, tmp_path: Path) -> None:
    network, backbone = shake(side_network(GEOMETRY, "losa")), SamBackbone(sam)
    encoder = SideEncoder(backbone, network, FeatureCache(tmp_path, backbone, network))
    first, second = encoder(pictures()), encoder(pictures())
    assert torch.equal(first, second)
    direct = SideEncoder(backbone, network)(pictures())
    assert 0 < (first - direct).abs().max() < 1e-2


@torch.no_grad()
def test_other_weights_and_other_taps_are_other_files(sam: Any, tmp_path: Path) -> None:
    folders = set()
    for other in (sam, tiny_sam(4)):
        for taps in ("all", "global"):
            network = side_network(other.geometry, "losa", taps=taps)
            cache = FeatureCache(tmp_path, SamBackbone(other), network)
            cache(pictures(1))
            assert cache.encoded == 1
            folders.add(cache.folder)
    supernet = calibrated()
    for plan in (mixed_plan(), mixed_plan(dim=32)):
        backbone = SubnetBackbone(supernet, plan)
        cache = FeatureCache(tmp_path, backbone, side_network(TINY, "losa"))
        cache(smooth_images()[1][None])
        assert cache.encoded == 1
        folders.add(cache.folder)
    assert len(folders) == 6


@torch.no_grad()
def test_half_written_and_damaged_files_are_made_again(
    sam: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network, backbone = side_network(GEOMETRY, "losa"), SamBackbone(sam)
    cache = FeatureCache(tmp_path, backbone, network)

    def killed(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            cache(pictures(1))
    cache(pictures(1))
    assert cache.encoded == 2
    (path,) = cache.folder.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    cache(pictures(1))
    assert cache.encoded == 3
    assert "is encoded again" in caplog.text
    cache(pictures(1))
    assert cache.encoded == 3
