"""`task: semantic`: a tiny supernet trained on two classes, its file, its evaluation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from hwnas.config.training import TrainConfig, changed_recipe
from hwnas.data.confusion import class_scores, confusion
from hwnas.data.labeled import LabeledImage
from hwnas.errors import CheckpointError, ConfigError, DataError
from hwnas.supernet.checkpoint import load_sam, read_metadata, read_tensors, save_weights
from hwnas.supernet.sam_supernet import SamSupernet, build
from hwnas.supernet.semantic import classes_of, semantic_head
from hwnas.supernet.supernet_file import hash_weights
from hwnas.supernet.training.elastic.semantic_task import ClassBatch, SemanticTask, task_of
from hwnas.supernet.training.elastic.tasks import Prediction, PromptTask
from hwnas.supernet.training.losses import distilled_class_loss
from hwnas.workflows import train as workflow
from hwnas.workflows.evaluate import subnets as evaluation
from hwnas.workflows.evaluate.subnets import evaluate_subnets
from hwnas.workload.sam_geometry import GEOMETRIES
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.elastic_models import TINY, random_sam, relative_error
from tests.supernet.training.elastic_material import disks, tiny_config, tiny_space

CLASSES = ("dim", "bright")


class Trained(NamedTuple):
    folder: Path
    data: Path
    base: Path
    net: SamSupernet
    figures: dict[str, dict[str, Any]]


def two_classes(n: int, seed: int = 0) -> list[LabeledImage]:
    """Disks of which the first of each image is dim, the others bright."""
    images = []
    for drawn in disks(n, seed):
        labels = np.where(drawn.instances == 1, 1, 2).astype(np.uint8) * (drawn.instances > 0)
        labels[0] = 255
        pixels = np.where((labels == 1)[..., None], drawn.image // 2, drawn.image)
        images.append(
            LabeledImage(drawn.name, pixels, drawn.instances, labels=labels, classes=CLASSES)
        )
    return images


def semantic_config(**changes: Any) -> TrainConfig:
    return tiny_config(task="semantic", steps={"teacher": 2, "axes": 1, "bits": [1, 1]}, **changes)


def write_data(folder: Path) -> Path:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    rows = ["name,split"]
    for number, image in enumerate(two_classes(6)):
        assert image.labels is not None
        Image.fromarray(image.image).save(folder / "images" / f"{image.name}.png")
        Image.fromarray(image.labels).save(folder / "labels" / f"{image.name}.png")
        rows.append(f"{image.name},{'train' if number < 4 else 'val'}")
    (folder / "split.csv").write_text("\n".join(rows) + "\n")
    (folder / "classes.json").write_text(json.dumps(CLASSES))
    return folder


@pytest.fixture(scope="module")
def tiny_is_known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(GEOMETRIES, "tiny", TINY)
        patch.setattr(workflow, "load_space", lambda name: tiny_space())
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_is_known: None) -> Trained:
    folder = tmp_path_factory.mktemp("semantic")
    base = save_weights(
        folder / "base.safetensors", random_sam().state_dict(), metadata={"geometry": "tiny"},
        packed=True,
    )  # fmt: skip
    nets = []
    save = workflow.save_supernet
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            workflow, "save_supernet", lambda net, *a, **k: nets.append(net) or save(net, *a, **k)
        )
        data = write_data(folder / "data")
        config = semantic_config(base=str(base))
        figures = workflow.train_supernet(config, data=data, out=folder / "run", seed=3)
    return Trained(folder / "run", data, base, nets[0], figures)


def test_every_phase_trains_the_head_and_is_judged_by_miou(trained: Trained) -> None:
    assert list(trained.figures) == ["teacher", "resolution", "depth", "width", "bits-4", "bits-2"]
    for name, figures in trained.figures.items():
        judged = {key for key in figures if key.startswith("val.")}
        assert "val.none.float" in judged, name
        assert {key.split(".")[1] for key in judged} == {"none"}
    assert {"val.none.2", "val.none.small"} <= set(trained.figures["bits-2"])
    fresh = load_sam(trained.base)
    semantic_head(fresh, CLASSES, seed=3)
    now, before = trained.net.sam.state_dict(), fresh.state_dict()
    for part in ("mask_tokens.weight", "output_hypernetworks_mlps.2.layers.0.weight"):
        assert not torch.equal(now[f"mask_decoder.{part}"], before[f"mask_decoder.{part}"])
    lines = (trained.folder / "log.jsonl").read_text()
    assert "smallest.mask@" in lines
    assert "largest.iou@" in lines


def test_a_semantic_supernet_survives_its_file(trained: Trained) -> None:
    path = trained.folder / workflow.SUPERNET
    read = build(path)
    assert classes_of(read.sam) == CLASSES
    own, other = trained.net.sam.state_dict(), read.sam.state_dict()
    assert own.keys() == other.keys()
    errors = {n: relative_error(other[n], own[n]) for n in own if own[n].any()}
    assert max(errors.values()) < 5e-3  # decoder: 8 bits per channel
    image = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(5))
    plan = EncoderPlan.uniform(TINY, resolution=128)
    assert relative_error(read.embed(image, plan), trained.net.embed(image, plan)) < 1e-3
    metadata = read_metadata(path)
    assert json.loads(metadata["classes"]) == list(CLASSES)
    assert metadata["base_hash"] == hash_weights(load_sam(trained.base).state_dict())


def test_a_finished_run_resumes_to_the_same_weights(trained: Trained, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained.folder, folder)
    file = folder / workflow.SUPERNET
    file.unlink()
    config = semantic_config(base=str(trained.base))
    workflow.train_supernet(config, data=trained.data, out=folder, seed=3, resume=True)
    assert hash_weights(read_tensors(file)) == hash_weights(
        read_tensors(trained.folder / workflow.SUPERNET)
    )


def test_the_base_is_still_checked(trained: Trained, tmp_path: Path) -> None:
    path = tmp_path / "lean.safetensors"
    weights = load_sam(trained.base).state_dict()
    workflow.save_supernet(trained.net, path, base_weights=weights, with_base=False)
    assert classes_of(build(path, base=trained.base).sam) == CLASSES
    other = save_weights(
        tmp_path / "other.safetensors", random_sam(seed=1).state_dict(),
        metadata={"geometry": "tiny"},
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="was prepared for other weights"):
        build(path, base=other)


def test_evaluation_without_prompts(trained: Trained) -> None:
    path = trained.folder / workflow.SUPERNET
    wanted: dict[str, Any] = {"archs": "smallest", "data": trained.data, "space": tiny_space()}
    (line,) = evaluate_subnets(path, prompts=["none"], **wanted)
    assert line["prompt"] == "none"
    assert 0 <= line["iou"] <= 1
    assert set(line["class_iou"]) <= set(CLASSES)
    with pytest.raises(ConfigError, match="takes no prompts; evaluate it with --prompt none"):
        evaluation.evaluate_subnets(path, prompts=["box"], **wanted)


def test_classes_that_training_never_shows_are_refused(trained: Trained, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    for number in range(4):
        file = data / "labels" / f"disks-{number}.png"
        labels = np.array(Image.open(file))
        Image.fromarray(np.where(labels == 1, 0, labels)).save(file)
    with pytest.raises(DataError, match="dim: in the validation split and never in the training"):
        workflow.train_supernet(
            semantic_config(base=str(trained.base)), data=data, out=tmp_path / "run"
        )


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"train_decoder": False}, "train_decoder: true"),
        ({"steps.teacher": 0}, "steps.teacher 1 or more, or set teacher: in-place"),
    ],
)
def test_recipes_whose_head_nothing_trains_are_refused(
    changes: dict[str, object], part: str
) -> None:
    content = semantic_config().model_dump()
    with pytest.raises(ConfigError, match=part):
        changed_recipe(content, changes, source="recipe")
    changed_recipe(content, {"steps.teacher": 0, "teacher": "in-place"}, source="recipe")


def test_the_recipe_chooses_the_task() -> None:
    assert isinstance(task_of(tiny_config()), PromptTask)
    assert isinstance(task_of(semantic_config()), SemanticTask)


def test_a_share_of_a_batch_is_the_same_rows() -> None:
    config, images = semantic_config(), two_classes(4)
    task, size = SemanticTask(config), config.batches[0]
    whole = task.batch(images, size, np.random.default_rng(7), slice(None))
    part = task.batch(images, size, np.random.default_rng(7), slice(1, None, 2))
    assert whole.labels.shape == (2, 16, 16)
    assert whole.images.shape == (2, 3, 64, 64)
    assert torch.equal(whole.labels[1:], part.labels)
    assert torch.equal(whole.images[1:], part.images)


def test_the_iou_of_a_batch_is_that_of_the_confusion_matrix() -> None:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 8, 8), generator=rng)
    labels[:, 0] = 255
    logits = torch.randn(2, 4, 8, 8, generator=rng)
    logits[:, 3] = -9  # a class that occurs neither in truth nor in prediction
    batch = ClassBatch(torch.zeros(2, 3, 32, 32), labels)
    losses = SemanticTask(semantic_config()).loss(Prediction(logits, torch.empty(0)), batch)
    found = logits.argmax(1).numpy()
    matrix = confusion(found, labels.numpy().astype(np.uint8), 3)
    assert float(losses["iou"]) == pytest.approx(class_scores([matrix], ("a", "b", "c")).miou)
    assert not losses["iou"].requires_grad


def test_distillation_is_the_divergence_from_the_teacher() -> None:
    rng = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 2, 3, 5, 5, generator=rng)
    p, q = teacher.softmax(1), student.softmax(1)
    expected = float((p * (p / q).log()).sum() / (2 * 5 * 5))
    assert float(distilled_class_loss(student, teacher)) == pytest.approx(expected, rel=1e-5)
    assert float(distilled_class_loss(teacher, teacher)) == pytest.approx(0, abs=1e-6)
