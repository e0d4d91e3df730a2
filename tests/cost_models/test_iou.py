"""IoU as a cost model: the mean, its standard error, caps and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from cost_models.iou import Iou
from hwnas.cost import CostContext
from hwnas.data.folder import LabeledImage
from hwnas.data.scores import mean_with_error
from hwnas.errors import CostError
from hwnas.supernet.evaluation import evaluate_image
from hwnas.supernet.sam_model import build_sam, encode
from hwnas.workload.sam_geometry import GEOMETRIES
from search_spaces.sam import sam_vit_t


class _Full:
    """A supernet that always runs its largest network."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.geometry = GEOMETRIES["sam-vit-t"]
        self.sam = build_sam(self.geometry)
        self.runs = 0

    def resolution(self, arch: Any) -> int:
        return int(arch["resolution"])

    def embed(self, images: torch.Tensor, arch: Any) -> torch.Tensor:
        del arch
        self.runs += len(images)
        return encode(self.sam, images)


@pytest.fixture(scope="module")
def supernet() -> _Full:
    return _Full()


def _image(seed: int) -> LabeledImage:
    rng = np.random.default_rng(seed)
    ids = np.zeros((64, 64), dtype=np.int32)
    for i in range(5):
        ids[i * 12 : i * 12 + 8, 5 : 20 + 3 * i] = i + 1
    pixels = np.asarray(rng.integers(0, 255, (64, 64, 3)), dtype=np.uint8)
    return LabeledImage(f"image {seed}", pixels, ids)


def _model(supernet: _Full, images: int, **options: Any) -> Iou:
    data = [_image(seed) for seed in range(images)]
    return Iou(CostContext(sam_vit_t(), supernet=lambda: supernet, data=lambda: data), **options)


def _arch() -> Any:
    space = sam_vit_t()
    return space.arch({**space.largest().genes, "resolution": 128})


@pytest.mark.parametrize("prompt", ["box", "point"])
def test_value_is_the_mean_over_objects_of_one_image(supernet: _Full, prompt: Any) -> None:
    batch = _model(supernet, 1, prompt=prompt).estimate([_arch()])
    with torch.no_grad():
        scores = evaluate_image(supernet.sam, _image(0), resolution=128, prompt=prompt)
    mean, error = mean_with_error(scores.tolist())
    assert batch.value[0] == pytest.approx(mean)
    assert batch.hi is not None
    assert batch.lo is not None
    assert batch.hi[0] - batch.lo[0] == pytest.approx(2 * (error or 0))
    assert batch.fidelity == "measured"


def test_several_images_are_averaged_and_each_is_embedded_once(supernet: _Full) -> None:
    before = supernet.runs
    value = _model(supernet, 3).evaluate([_arch()])
    assert supernet.runs - before == 3
    singles = [
        evaluate_image(supernet.sam, _image(s), resolution=128, prompt="box").mean()
        for s in range(3)
    ]
    assert value[0] == pytest.approx(np.mean(singles))


def test_cap_draws_the_same_objects_each_time(supernet: _Full) -> None:
    model = _model(supernet, 1, max_prompts=2)
    first, second = model.evaluate([_arch(), _arch()])
    assert first == second
    assert first == _model(supernet, 1, max_prompts=2).evaluate([_arch()])[0]


def test_options_that_make_no_sense_are_all_named(supernet: _Full) -> None:
    with pytest.raises(CostError, match=r"prompt is 'mask'.*max_prompts is 0"):
        _model(supernet, 1, prompt="mask", max_prompts=0)


def test_no_archs_give_no_values(supernet: _Full) -> None:
    assert _model(supernet, 1).evaluate([]).shape == (0,)
