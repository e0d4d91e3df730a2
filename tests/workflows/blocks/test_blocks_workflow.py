"""A library of few blocks of a tiny model, built, killed, resumed, filtered and scored."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cost_models.block_loss import BlockLoss
from hwnas.blocks.distilling import Distillation
from hwnas.blocks.library import read_library
from hwnas.blocks.options import slot_gene
from hwnas.blocks.stitching import build as build_stitched
from hwnas.blocks.tuning import load_network
from hwnas.data.transforms import preprocess
from hwnas.errors import ArchError, CheckpointError, ConfigError, DataError, RunError
from hwnas.space import SearchSpace
from hwnas.supernet.checkpoint import save_weights
from hwnas.workflows.blocks.build import BlocksBuilt, build_blocks
from hwnas.workflows.blocks.filter import filter_library
from hwnas.workflows.blocks.finetune import finetune_network
from hwnas.workflows.blocks.score import score_library
from hwnas.workflows.context import make_context
from hwnas.workload.sam_geometry import GEOMETRIES
from search_spaces.sam_blocks import sam_blocks_space, sam_vit_t_blocks
from tests.blocks.made_libraries import library
from tests.supernet.elastic_models import TINY, random_sam
from tests.supernet.probing.small_sam import picture

TEACHER = "vit-d2-r4-fp16"
BLOCKS = ("conv-d1-r2-w8a8", "conv-d1-r2-w4a8", "window-d1-r2-fp16", TEACHER)
HOW = Distillation(steps=4, finish=2, batch=2)
SIDE, SLOTS = 64, 2


def write_pictures(folder: Path, splits: tuple[str, ...], plain: tuple[int, ...] = ()) -> Path:
    for part in ("images", "instances"):
        (folder / part).mkdir(parents=True)
    rows = ["name,split"]
    for number, split in enumerate(splits):
        made = picture(number)
        pixels = np.full_like(made.image, 90) if number in plain else made.image
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        Image.fromarray(made.instances.astype(np.uint16)).save(
            folder / "instances" / f"{number}.png"
        )
        rows.append(f"{number},{split}")
    (folder / "split.csv").write_text("\n".join(rows) + "\n")
    return folder


def space() -> SearchSpace:
    return sam_blocks_space(TINY, SIDE, name="tiny-blocks")


def build(data: Path, out: Path, **changes: object) -> BlocksBuilt:
    """A library of the tiny model, which lies beside the data."""
    given = {"blocks": BLOCKS, "how": HOW, "supernet": str(data.parent / "tiny.safetensors")}
    return build_blocks(space(), data=data, out=out, **{**given, **changes})


def lines(folder: Path) -> list[dict[str, object]]:
    found = [json.loads(x) for x in (folder / "measurements.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


@pytest.fixture(scope="module", autouse=True)
def tiny_model():
    """The tiny geometry by name, as a shipped one is known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(GEOMETRIES, TINY.name, TINY)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    weights = random_sam().state_dict()
    save_weights(folder / "tiny.safetensors", weights, metadata={"geometry": TINY.name})
    return write_pictures(folder / "d", ("train",) * 3 + ("val",) * 2)


@pytest.fixture(scope="module")
def built(data, tmp_path_factory):
    return build(data, tmp_path_factory.mktemp("blocks") / "library")


def test_every_block_is_measured_on_held_out_images(built):
    library = built.library
    assert built.trained == len(library.blocks) == SLOTS * 4
    for record in library.blocks.values():
        assert len(record.nsr_of_images) == len(record.fisher_of_images) == 2
        assert record.nsr == pytest.approx(np.mean(record.nsr_of_images))
        assert record.macs > 0
    for slot in range(SLOTS):
        own = library.blocks[slot, TEACHER]
        assert own.nsr < 1e-8
        assert max(own.fisher_of_images) < min(
            library.blocks[slot, "conv-d1-r2-w4a8"].fisher_of_images
        )
        assert own.steps == 0
    assert {row["slot"] for row in built.rows} == {0, 1}


def test_a_library_is_neither_overwritten_nor_mixed(built, data):
    folder = built.library.path
    with pytest.raises(RunError, match="exists already"):
        build(data, folder)
    with pytest.raises(RunError, match="seed: began with 0, now 1"):
        build(data, folder, seed=1, resume=True)
    assert build(data, folder, resume=True).trained == 0


def test_a_library_grows(built, data, tmp_path):
    shutil.copytree(built.library.path, tmp_path / "grown")
    grown = build(data, tmp_path / "grown", blocks=("conv-d1-r3-fp16",), resume=True)
    assert grown.trained == SLOTS
    assert len(grown.library.blocks) == len(built.library.blocks) + SLOTS


KILLED = """
import sys
from pathlib import Path
from tests.workflows.blocks.test_blocks_workflow import GEOMETRIES, TINY, build
GEOMETRIES[TINY.name] = TINY
build(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_killed_and_resumed_it_is_the_same_library(built, data, tmp_path):
    out = tmp_path / "cut"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(data), str(out)], cwd=Path(__file__).parents[3]
    )
    log = out / "measurements.jsonl"
    while child.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 3):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert 3 <= log.read_bytes().count(b"\n") < SLOTS * 6
    with log.open("ab") as file:
        file.write(b'{"key": "block/0/half')  # what a kill in the middle of a write leaves
    assert build(data, out, resume=True).trained > 0
    assert lines(out) == lines(built.library.path)
    for file in sorted((built.library.path / "weights").iterdir()):
        assert file.read_bytes() == (out / "weights" / file.name).read_bytes()


def test_bad_data_and_bad_options_are_said(data, tmp_path):
    tiny = {"supernet": str(data.parent / "tiny.safetensors")}
    constant = write_pictures(tmp_path / "plain", ("train", "train", "val"), plain=(0, 1))
    with pytest.raises(DataError, match="all 2 images show one color each"):
        build(constant, tmp_path / "a", **tiny)
    whole = write_pictures(tmp_path / "whole", ("train", "val"))
    (whole / "split.csv").unlink()
    with pytest.raises(DataError, match="no splits"):
        build(whole, tmp_path / "b", **tiny)
    with pytest.raises(ConfigError, match=r"--blocks pool-\*"):
        build(data, tmp_path / "c", blocks=("pool-*",))
    with pytest.raises(ConfigError, match="--steps 0"):
        build(data, tmp_path / "d", how=Distillation(steps=0))
    with pytest.raises(ConfigError, match="no space of slots of blocks"):
        build_blocks("sam-vit-t", data=data, out=tmp_path / "e")
    assert not [path for path in tmp_path.iterdir() if path.name in "abcde"]


def test_some_plain_images_are_remarked(data, tmp_path):
    mixed = write_pictures(tmp_path / "mixed", ("train", "train", "val"), plain=(0,))
    done = build(
        mixed, tmp_path / "out", blocks=(TEACHER,), supernet=str(data.parent / "tiny.safetensors")
    )
    assert done.remarks[0].startswith("1 of 2 training images show one color each")


def test_stitched_teachers_are_the_teacher(built, data):
    net = build_stitched(built.library.path)
    context = make_context(space(), supernet=str(built.library.path), data=str(data))
    image = context.require("data", by="test")[0]
    x = preprocess(image.image, SIDE)[None]
    own = net.embed(x, (TEACHER,) * SLOTS)
    assert float((own - net.teacher(x)).norm() / own.norm()) < 1e-4
    arch = context.space.arch({slot_gene(s): "conv-d1-r2-w8a8" for s in range(SLOTS)})
    net.activate(arch)
    assert (net(x) == net.embed(x, arch)).all()
    with pytest.raises(ArchError, match="no block vit-d1-r2-w8a8 for slot 0"):
        net.embed(x, ("vit-d1-r2-w8a8",) * SLOTS)
    with pytest.raises(CheckpointError, match="hwnas blocks build"):
        build_stitched("sam-vit-t-blocks")


def test_scores_are_compared_with_stitched_networks(built, data, tmp_path):
    folder = tmp_path / "library"
    shutil.copytree(built.library.path, folder)
    found = score_library(folder, data=data, networks=12, replace=True, iou=True)
    by_name = {row.score: row for row in found.rows}
    assert found.networks == 12
    assert by_name["sum"].tau is not None
    assert by_name["ridge"].note.startswith("each network left out once")
    replaced = read_library(folder).replaced
    assert len(replaced) == SLOTS * 4
    assert replaced[0, TEACHER] == 0.0
    assert all(record.iou is not None for record in read_library(folder).networks)
    assert score_library(folder, networks=12, replace=True, iou=True) == found  # nothing to run
    with pytest.raises(ConfigError, match="--data"):
        score_library(folder, networks=13)
    context = make_context(space(), supernet=str(folder))
    archs = [context.space.arch({slot_gene(s): BLOCKS[0] for s in range(SLOTS)})]
    for score in ("replace1", "ridge"):
        assert np.isfinite(BlockLoss(context, score=score).evaluate(archs)).all()


def test_training_networks_as_a_whole_brings_them_nearer(built, data, tmp_path):
    folder = tmp_path / "library"
    shutil.copytree(built.library.path, folder)
    score_library(folder, data=data, networks=3)
    before = {r.blocks: r.nsr for r in read_library(folder).networks}
    score_library(folder, data=data, networks=3, tune=6)
    after = {r.blocks: r.nsr for r in read_library(folder).networks}
    assert after.keys() == before.keys()
    assert sum(after.values()) < sum(before.values())


def test_a_winner_is_trained_and_written(built, data, tmp_path):
    out, names = tmp_path / "winner.safetensors", ("conv-d1-r2-w8a8",) * SLOTS
    done = finetune_network(built.library.path, blocks=names, data=data, out=out, steps=6)
    assert done.nsr < done.nsr_before
    net = build_stitched(built.library.path)
    x = torch.zeros(1, 3, SIDE, SIDE)
    slots = load_network(out, net)
    with torch.no_grad():
        assert not torch.equal(net.run(x, slots), net.embed(x, names))
    with pytest.raises(ConfigError, match="expected a new file"):
        finetune_network(built.library.path, blocks=names, data=data, out=out)
    with pytest.raises(ArchError, match="1 blocks for 2 slots"):
        finetune_network(
            built.library.path, blocks=names[:1], data=data, out=tmp_path / "b.safetensors"
        )


def test_devices_drop_what_does_not_pay_there(built, tmp_path):
    filters = {}
    for device in ("jetson-orin", "raspberry-pi-5"):
        out = tmp_path / f"{device}.yaml"
        filters[device] = filter_library(built.library, device=device, space=space(), out=out)
        keep = yaml.safe_load(out.read_text())["keep"]
        for slot in range(SLOTS):
            kept = [c.block for c in filters[device].slots[slot].kept]
            assert TEACHER in kept
            assert keep[slot_gene(slot)] == kept
    rows = filters["jetson-orin"].rows
    assert sum(r["kept"] + r["slow"] + r["beaten"] for r in rows) == SLOTS * 4
    for slot in filters["jetson-orin"].to_json()["slots"]:
        assert len(slot["kept"]) + len(slot["dropped"]) == 4
        assert all(block["why"] for block in slot["dropped"])


@pytest.mark.parametrize(
    ("device", "kept"),
    [
        ("t4", ["w4a4", "w4a8", "w8a8", "fp16"]),  # multiplies 4 by 4 bits
        ("jetson-orin", ["w4a8", "w8a8", "fp16"]),  # reads 4-bit weights, multiplies 8 by 8
        ("raspberry-pi-5", ["w8a8", "fp16"]),  # has no use for 4 bits at all
    ],
)
def test_bits_that_a_device_emulates_go(device, kept):
    losses = {"w4a4": 0.4, "w4a8": 0.2, "w8a8": 0.1, "fp16": 0.0}
    made = library(
        {(s, f"vit-d3-r4-{bits}"): loss for s in range(4) for bits, loss in losses.items()},
        slots=4, networks={},
    )  # fmt: skip
    found = filter_library(made, device=device, space=sam_vit_t_blocks())
    for slot in range(4):
        assert [c.block.rpartition("-")[2] for c in found.slots[slot].kept] == kept
        assert all(drop.reason == "beaten" for drop in found.slots[slot].dropped)
    native = {row["bits"] for row in found.rows if row["native"] == "yes"}
    assert ("w4a4" in native) == ("w4a4" in kept)
