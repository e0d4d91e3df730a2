"""The training recipe on a few synthetic images: it runs, it resumes, it refuses."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hwnas.data.views import View
from hwnas.errors import CheckpointError, ConfigError, DataError, Interrupted, RunError
from hwnas.supernet.checkpoint import load_sam, read_tensors
from hwnas.supernet.decoder import decode
from hwnas.supernet.prompting import dense_positions, dense_prompts
from hwnas.supernet.sam_model import build_sam, encode
from hwnas.supernet.training.batches import Batch
from hwnas.supernet.training.losses import embedding_loss, mask_losses
from hwnas.supernet.training.pretraining import decoding
from hwnas.supernet.training.pretraining.decoding import (
    prompt_losses,
    slice_view,
    window_of,
)
from hwnas.supernet.training.pretraining.dense import dense_loss, dense_targets
from hwnas.supernet.training.pretraining.recipe import (
    CachedSet,
    Mix,
    Recipe,
    StageRecipe,
    restarted_recipe,
)
from hwnas.supernet.training.pretraining.selection import select_weights
from hwnas.workflows.convert import convert_model
from hwnas.workflows.draw_masks import draw_masks
from hwnas.workflows.evaluate.model import evaluate_baselines, evaluate_model
from hwnas.workflows.pack import pack_model
from hwnas.workflows.pretrain import Pretraining, pretrain_model
from hwnas.workflows.watch import Silent
from hwnas.workload.sam_geometry import GEOMETRIES

TINY = Recipe(
    s=StageRecipe(steps=3, share=0.3, rate=1e-3, mixes=(Mix(64, 1.0, 2, 2),)),
    t1=StageRecipe(steps=2, share=0.3, rate=1e-3, mixes=(Mix(64, 1.0, 2),)),
    t2=StageRecipe(steps=3, share=0.4, rate=1e-3, mixes=(Mix(128, 1.0, 1, 2),)),
    d=StageRecipe(
        steps=2, share=0.4, rate=1e-3, mixes=(Mix(64, 0.5, 2, 2, window=2), Mix(64, 0.5, 1, 2))
    ),
    cached_views=(CachedSet(64, 1, 0.5),),
    decoded_views=(CachedSet(64, 1, 0.5),),
    validate_at=(64,),
    validate_every=1,
)


def write_backbone(path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.02

    dim, weights = 384, {}
    weights["cls_token"], weights["pos_embed"] = random(1, 1, dim), random(1, 26, dim)
    weights["patch_embed.proj.weight"] = random(dim, 3, 14, 14)
    weights["patch_embed.proj.bias"] = random(dim)
    for name in [f"blocks.{i}.norm{k}" for i in range(12) for k in (1, 2)] + ["norm"]:
        weights[name + ".weight"], weights[name + ".bias"] = 1 + random(dim), random(dim)
    for i in range(12):
        for name, rows, columns in (
            ("attn.qkv", 3 * dim, dim),
            ("attn.proj", dim, dim),
            ("mlp.fc1", 4 * dim, dim),
            ("mlp.fc2", dim, 4 * dim),
        ):
            weights[f"blocks.{i}.{name}.weight"] = random(rows, columns)
            weights[f"blocks.{i}.{name}.bias"] = random(rows)
        weights[f"blocks.{i}.ls1.gamma"] = 1 + random(dim)
        weights[f"blocks.{i}.ls2.gamma"] = 1 + random(dim)
    save_file(weights, path)
    return path


def write_data(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for part in ("images", "instances"):
        (folder / part).mkdir(parents=True)
    rows = ["name,file,split"]
    for index, split in enumerate(["train"] * 3 + ["val"]):
        ids = np.zeros((64, 80), np.uint16)
        for i in range(1, 4):
            y, x = rng.integers(5, 45, 2)
            ids[y : y + 12, x : x + 14] = i
        gray = np.where(ids > 0, 200, 40).astype(np.uint8)
        Image.fromarray(gray).save(folder / "images" / f"im{index}.png")
        Image.fromarray(ids).save(folder / "instances" / f"im{index}.png")
        rows.append(f"im{index},im{index}.png,{split}")
    (folder / "split.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("training")
    return write_data(root / "data"), write_backbone(root / "backbone.safetensors")


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    data, base = sources
    request = Pretraining("sam-vit-t", data, base, recipe=TINY)
    whole = tmp_path / "whole"
    figures = pretrain_model(request, out=whole)
    assert [figures[s]["steps"] for s in ("s", "t1", "t2")] == [3, 2, 3]

    cut = tmp_path / "cut"
    for stage, step in (("s", 2), ("t2", 1)):
        watch = StoppingWatch(stage, step)
        said = rf"stopped in stage {stage} after step {step} of 3.* with --resume"
        with pytest.raises(Interrupted, match=said):
            pretrain_model(request, out=cut, resume=cut.exists(), watch=watch)
    pretrain_model(request, out=cut, resume=True)
    for name in ("sam_vit_s.safetensors", "sam_vit_t.safetensors"):
        expected, found = read_tensors(whole / name), read_tensors(cut / name)
        assert all(torch.equal(expected[k], found[k]) for k in expected)
    assert load_sam(cut / "sam_vit_t.safetensors").geometry.name == "sam-vit-t"

    with pytest.raises(RunError, match="add --resume"):
        pretrain_model(request, out=cut)
    with pytest.raises(RunError, match="other values of seed"):
        pretrain_model(replace(request, seed=5), out=cut, resume=True)

    start = whole / "stages" / "t2.safetensors"  # the auxiliary head goes on as well
    again = Pretraining("sam-vit-t", data, start=start, stages=("d", "t2"), recipe=TINY)
    assert list(pretrain_model(again, out=tmp_path / "again")) == ["d", "t2"]


class StoppingWatch(Silent):
    """Presses Ctrl-C after a step of a stage."""

    def __init__(self, stage: str, step: int) -> None:
        self._wanted, self._stage = (f"stage {stage}", step), ""

    def begin(self, stage: str, total: int | None) -> None:
        self._stage = stage

    def advance(self, done: int, **figures: float) -> None:
        if (self._stage, done) == self._wanted:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_stage_t2_goes_on_from_the_shipped_weights(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    data, _ = sources
    mix = Mix(128, 1.0, 1, 2, precision="bf16")
    recipe = replace(TINY, t2=StageRecipe(steps=2, share=1.0, rate=1e-9, mixes=(mix,)))
    request = Pretraining("sam-vit-t", data, start="sam-vit-t", stages=("t2",), recipe=recipe)
    assert list(pretrain_model(request, out=tmp_path / "run")) == ["t2"]
    found = read_tensors(tmp_path / "run" / "sam_vit_t.safetensors")
    shipped = load_sam("sam-vit-t").state_dict()
    assert max(float((found[k] - shipped[k]).abs().max()) for k in shipped) < 1e-6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sam-vit-b"}, "expected sam-vit-s or sam-vit-t"),
        ({"base": None}, "give a backbone"),
        ({"stages": ("t2",)}, "stages t2: sam-vit-t has s,t1,t2, from the first on"),
        ({"start": "sam-vit-t"}, "needs no --base"),
        ({"start": "sam-vit-t", "base": None, "stages": ("s",)}, "stages s, base none"),
        ({"start": "no.safetensors", "base": None}, "no such file"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    request = replace(Pretraining("sam-vit-t", tmp_path, tmp_path), **changes)
    with pytest.raises(ConfigError, match=message):
        pretrain_model(request, out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_window_keeps_its_place_in_the_image() -> None:
    """Prompts of a window, at its offset, are those of the whole view; an object is in it."""
    ids = np.zeros((128, 128), np.int32)
    ids[70:90, 100:120] = 1
    view = View(np.zeros((128, 128, 3), np.uint8), ids, 120, 128)
    for seed in range(8):
        y, x = window_of(view, 3, np.random.default_rng(seed))
        part = slice_view(view, y, x, 3)
        assert (part.instances > 0).any()
        assert np.array_equal(part.instances, ids[16 * y : 16 * y + 48, 16 * x : 16 * x + 48])
        assert part.height == min(48, 120 - 16 * y)
    # a drawn box is drawn in the window, whose place only its tokens say
    sam = build_sam(replace(GEOMETRIES["sam-vit-t"], drawn_boxes=False))
    boxes, points = torch.tensor([[[4.0, 6, 20, 30]]]), torch.tensor([[[[9.0, 11]]]])
    batch = Batch(torch.zeros(1, 3, 48, 48), boxes, points, torch.ones(1, 2, 24, 24))
    offset = torch.tensor([16.0 * x, 16.0 * y])
    moved = replace(batch, boxes=boxes + offset.repeat(2), points=points + offset)
    embedding = torch.randn(1, 256, 3, 3, generator=torch.Generator().manual_seed(0))
    places = dense_positions(sam, 8)[:, :, y : y + 3, x : x + 3]
    shared = {"resolution": 128, "positions": places}
    by_offset = prompt_losses(sam, embedding, batch, offsets=offset[None], **shared)
    assert by_offset == prompt_losses(sam, embedding, moved, **shared)
    elsewhere = prompt_losses(sam, embedding, batch, **shared)
    assert by_offset["loss"] != elsewhere["loss"]


def test_a_box_is_drawn_where_its_window_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def spy(sam: Any, embedding: Any, sparse: Any, *, dense: Any, positions: Any) -> Any:
        drawn.append(dense)
        return decode(sam, embedding, sparse, dense=dense, positions=positions)

    monkeypatch.setattr(decoding, "decode", spy)
    sam = build_sam(GEOMETRIES["sam-vit-t"])
    y, x, box = 2, 4, torch.tensor([[[70.0, 40, 92, 61]]])  # of a view of 8 x 8 cells
    shown = box - torch.tensor([16.0 * x, 16.0 * y]).repeat(2)
    points = torch.zeros(1, 0, 1, 2)
    batch = Batch(torch.zeros(1, 3, 48, 48), shown, points, torch.ones(1, 1, 24, 24))
    places = dense_positions(sam, 8)[:, :, y : y + 3, x : x + 3]
    offset = torch.tensor([[16.0 * x, 16.0 * y]])
    prompt_losses(
        sam, torch.randn(1, 256, 3, 3), batch, resolution=128, offsets=offset, positions=places
    )
    whole = dense_prompts(sam, box, 8)[..., y : y + 3, x : x + 3]
    assert torch.allclose(drawn[0], whole, atol=1e-6)


def test_the_restarted_recipe_is_fit_for_sam_vit_t() -> None:
    stage = restarted_recipe().t2
    assert sum(mix.share for mix in stage.mixes) == pytest.approx(1)
    assert {m.resolution for m in stage.mixes} <= {*GEOMETRIES["sam-vit-t"].resolutions}
    assert all((m.precision == "bf16") == (m.resolution >= 384) for m in stage.mixes)


def test_mask_losses_reward_the_right_mask() -> None:
    truth = torch.zeros(1, 32, 32)
    truth[:, 8:16, 8:16] = 1
    logits = (torch.nn.functional.avg_pool2d(truth, 2) - 0.5) * 20
    good = mask_losses(logits, torch.ones(1), truth)
    bad = mask_losses(-logits, torch.ones(1), truth)
    assert good["iou"] == 1
    assert good["loss"] < 0.1 * bad["loss"]


def test_embedding_loss_is_one_for_a_constant_student() -> None:
    teacher = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    loss = embedding_loss(teacher.mean().expand_as(teacher), teacher)
    assert float(loss) == pytest.approx(1, abs=0.01)


def test_dense_targets_point_to_the_center() -> None:
    ids = np.zeros((32, 32), np.int32)
    ids[8:24, 4:20] = 3
    (target,) = dense_targets([ids])
    assert target.shape == (3, 16, 16)
    assert target[0].sum() == 64
    y, x = 5, 3  # in halves: pixel (10, 6); the centroid of the sampled pixels is (15, 11)
    assert target[1, y, x] == pytest.approx((11 - 6) / 16)
    assert target[2, y, x] == pytest.approx((15 - 10) / 16)
    perfect = torch.stack([(target[0] - 0.5) * 40, target[1], target[2]])[None]
    assert float(dense_loss(perfect, target[None])) < 0.01


def test_selected_weights_are_those_of_evenly_spaced_channels() -> None:
    small, large = build_sam(GEOMETRIES["sam-vit-t"]), build_sam(GEOMETRIES["sam-vit-s"])
    select_weights(small.image_encoder, large.image_encoder)
    own, source = (m.image_encoder.blocks[4] for m in (small, large))
    assert torch.equal(own.mlp.lin1.weight, source.mlp.lin1.weight[::2, ::2])
    keys = own.attn.qkv.weight[192:256]  # the first head's keys
    assert torch.equal(keys, source.attn.qkv.weight[384:448, ::2])
    assert encode(small, torch.zeros(1, 3, 64, 64)).shape == (1, 256, 4, 4)


def test_the_shipped_head_fits_a_converted_backbone(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    _, base = sources
    done = convert_model("sam-vit-s", base=base, out=tmp_path / "s.safetensors")
    assert done.agreement is None
    assert load_sam(done.path).geometry is GEOMETRIES["sam-vit-s"]
    head = pack_model(done.path, out=tmp_path / "head.safetensors", head_only=True)
    assert head.stat().st_size < 6_000_000
    assert not any(".blocks." in key for key in read_tensors(head))

    with pytest.raises(CheckpointError, match="expected a head only"):
        convert_model("sam-vit-s", base=base, out=tmp_path / "x.safetensors", head=done.path)
    with pytest.raises(ConfigError, match=r"ends in \.safetensors"):
        convert_model("sam-vit-s", base=base, out=tmp_path / "x.pth")
    with pytest.raises(ConfigError, match="same file"):
        pack_model(head, out=head)


def test_the_shipped_model_segments_the_embedded_picture() -> None:
    """A floor, far above chance (the mean nucleus covers a thousandth of the picture)."""
    box, point = evaluate_model("sam-vit-t", max_instances=24, seed=0)
    assert (box.images, box.objects, box.resolution) == (1, 24, 512)
    assert box.error is None
    assert box.iou > 0.4
    assert point.iou > 0.35


def test_baselines_score_every_object_of_the_embedded_picture() -> None:
    otsu, box = evaluate_baselines()
    assert otsu.objects == box.objects == 125
    assert otsu.iou == pytest.approx(0.7125, abs=0.001)
    assert box.iou == pytest.approx(0.7265, abs=0.001)


def test_mask_pictures_are_written_for_known_names_only(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    data, _ = sources
    path = draw_masks(
        "sam-vit-t", data=data, names=["im0", "im3"], out=tmp_path / "m.png", resolution=128
    )
    with Image.open(path) as picture:
        assert picture.width == 3 * 200 + 2 * 4
    with pytest.raises(DataError, match="has no image im9"):
        draw_masks("sam-vit-t", data=data, names=["im9"], out=tmp_path / "n.png")
