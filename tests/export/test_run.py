"""The runner of a deploy folder feeds pictures and reads masks as the supernet does."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.data import transforms
from hwnas.data.prompts import Prompts
from hwnas.export import run
from hwnas.supernet.evaluation import embed_in_pixels
from hwnas.supernet.prompting import embed_boxes, embed_points
from tests.supernet.elastic_models import random_sam

SIZES = [(64, 64), (50, 120), (200, 77), (128, 128), (3, 400)]


@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_prepared_as_for_training(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    found = run.preprocess(image, 128)[0]
    assert np.abs(found - transforms.preprocess(image, 128).numpy()).max() < 1e-6


@pytest.mark.parametrize("size", SIZES)
def test_masks_are_resized_as_the_supernets(size: tuple[int, int]) -> None:
    logits = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = transforms.postprocess(logits, size)[0].numpy()
    assert np.abs(run.postprocess(logits[0].numpy(), size, 128) - expected).max() < 1e-5


def test_coordinates_are_those_of_the_evaluation() -> None:
    sam, size = random_sam(), (90, 150)
    box = np.array([[10.0, 20.0, 40.0, 60.0]], np.float32)
    point = np.array([[33.0, 21.0]], np.float32)
    prompts = Prompts(np.array([1], np.int32), box, point)
    with torch.no_grad():
        expected = embed_in_pixels(sam, prompts, size, 128, ["box", "point"], torch.device("cpu"))
        corners, labels = run.coordinates(((box[0, :2], box[0, 2:]), (2, 3)), size, 128)
        boxes = embed_boxes(sam, torch.from_numpy(corners).reshape(1, 4), 128)
        assert labels.tolist() == [[2, 3]]
        places, labels = run.coordinates(((point[0],), (1,)), size, 128)
        points = embed_points(sam, torch.from_numpy(places[:, :1]), torch.ones(1, 1), 128)
        assert labels.tolist() == [[1, -1]]
    assert torch.allclose(torch.cat([boxes, points]), expected.sparse, atol=1e-6)


def test_it_imports_the_runtime_alone() -> None:
    tree = ast.parse(Path(run.__file__).read_text(encoding="utf-8"))
    named = {
        name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom)
                     else [alias.name for alias in node.names])
    }  # fmt: skip
    assert named - set(sys.stdlib_module_names) == {"numpy", "PIL", "onnxruntime"}
