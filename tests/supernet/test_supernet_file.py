"""Writing and reading supernets, and the messages for files that do not belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hwnas.errors import CheckpointError, DataError
from hwnas.supernet.checkpoint import load_sam, save_weights
from hwnas.supernet.elastic_encoder import ElasticEncoder
from hwnas.supernet.encoder_order import EncoderOrder, sort_encoder
from hwnas.supernet.range_calibration import calibrate_ranges
from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.sam_supernet import SamSupernet, build
from hwnas.supernet.supernet_file import hash_weights, read_supernet_file, write_supernet_file
from hwnas.workflows.prepare_supernet import prepare_supernet
from hwnas.workload.sam_geometry import GEOMETRIES
from hwnas.workload.sam_plan import EncoderPlan

GEOMETRY = GEOMETRIES["sam-vit-t"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed checkpoint with random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    weights = build_sam(GEOMETRY).state_dict()
    return save_weights(path, weights, metadata={"geometry": GEOMETRY.name}, packed=True)


def _write(path: Path, base: Path, *, with_base: bool) -> SamSupernet:
    """Prepare a supernet and write it; returns the one in memory."""
    sam = load_sam(base)
    weights = {name: value.clone() for name, value in sam.state_dict().items()}
    stock = EncoderOrder.stock(GEOMETRY)
    order = EncoderOrder(stock.heads.flip(1), stock.units.flip(1), stock.channels, stock.blocks)
    sort_encoder(sam.image_encoder, order, GEOMETRY)
    image = torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(0))
    scales = calibrate_ranges(
        ElasticEncoder(sam.image_encoder, GEOMETRY), [image],
        rng=torch.Generator().manual_seed(0), bits=(4, 8),
    )  # fmt: skip
    write_supernet_file(
        path, geometry=GEOMETRY, order=order, scales=scales, base_weights=weights,
        with_base=with_base, notes={"images": ["a"]},
    )  # fmt: skip
    return SamSupernet(sam, scales=scales, order=order)


@pytest.mark.parametrize("with_base", [True, False])
def test_a_supernet_survives_its_file(tmp_path: Path, base: Path, with_base: bool) -> None:
    path = tmp_path / "supernet.safetensors"
    written = _write(path, base, with_base=with_base)
    read = build(path, base=None if with_base else base)
    plan = EncoderPlan.uniform(GEOMETRY, resolution=128, w_bits=4, a_bits=8, attn_bits=4)
    image = torch.randn(1, 3, 128, 128)
    assert torch.equal(read.embed(image, plan), written.embed(image, plan))
    assert torch.equal(read.order.heads, written.order.heads)
    if not with_base:
        assert path.stat().st_size < 0.1 * base.stat().st_size


def test_other_base_weights_are_refused(tmp_path: Path, base: Path) -> None:
    path, other = tmp_path / "supernet.safetensors", tmp_path / "other.safetensors"
    _write(path, base, with_base=False)
    weights = load_sam(base).state_dict()
    weights["image_encoder.pos_embed"] += 1
    save_weights(other, weights, metadata={"geometry": GEOMETRY.name})
    with pytest.raises(CheckpointError, match="prepared for other weights"):
        build(path, base=other)


def test_a_plain_checkpoint_runs_in_floating_point_only(base: Path) -> None:
    net = build(base)
    image = torch.randn(1, 3, 128, 128)
    assert torch.isfinite(net.teacher(image)).all()
    with pytest.raises(CheckpointError, match="calibrate"):
        net.embed(image, EncoderPlan.uniform(GEOMETRY, resolution=128, w_bits=8, a_bits=8))


def test_a_bit_width_without_scales_is_named(tmp_path: Path, base: Path) -> None:
    net = _write(tmp_path / "supernet.safetensors", base, with_base=True)
    plan = EncoderPlan.uniform(GEOMETRY, resolution=128, w_bits=3, a_bits=8, attn_bits=8)
    with pytest.raises(CheckpointError, match=r"at 3 bits has no scale \(there is one for 4, 8\)"):
        net.embed(torch.randn(1, 3, 128, 128), plan)


def test_hash_depends_on_names_and_values() -> None:
    a = {"x": torch.ones(2), "y": torch.zeros(3)}
    assert hash_weights(a) == hash_weights(dict(reversed(a.items())))
    assert hash_weights(a) != hash_weights({"x": torch.ones(2), "z": torch.zeros(3)})
    assert hash_weights(a) != hash_weights({"x": torch.ones(2), "y": torch.ones(3)})


def test_preparing_reads_the_training_split_and_leaves_the_embedded_image_out(
    tmp_path: Path, base: Path
) -> None:
    rows = [("4dbbb275960ab9e4", "train"), ("a", "train"), ("b", "train"), ("c", "test")]
    for folder in ("images", "instances"):
        (tmp_path / folder).mkdir()
    for name, _ in rows:
        pixels = np.random.default_rng(len(name)).integers(0, 255, (40, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(pixels // 128).save(tmp_path / "instances" / f"{name}.png")
    lines = ["name,file,split", *(f"{name},{name}.png,{split}" for name, split in rows)]
    (tmp_path / "split.csv").write_text("\n".join(lines))
    out = tmp_path / "supernet.safetensors"
    prepare_supernet(base, data=tmp_path, out=out, exclude=("b",))
    file = read_supernet_file(out)
    assert file.notes["images"] == ["a"]
    assert file.base_weights is not None
    with pytest.raises(DataError, match="0 images in split 'train'"):
        prepare_supernet(base, data=tmp_path, out=out, exclude=("a", "b"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.safetensors: no such file.*sam-vit-t"):
        build(tmp_path / "nothing.safetensors")
