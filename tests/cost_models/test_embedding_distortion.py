"""The embedding's noise-to-signal ratio: closed values, the teacher, and the interval."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cost_models.embedding_distortion import EmbeddingDistortion
from hwnas.cost import CostContext
from hwnas.data.folder import LabeledImage
from hwnas.errors import CostError
from hwnas.supernet.distortion import ChannelNoise, resize_embedding, valid_part
from hwnas.workload.sam_geometry import GEOMETRIES
from search_spaces.sam import sam_vit_t


def test_ratio_of_teacher_constant_and_dead_channel() -> None:
    torch.manual_seed(0)
    teacher = torch.randn(4, 6, 5)
    teacher[3] = 2.0  # no variance
    noise = ChannelNoise([teacher])
    assert noise.ratio(0, teacher) == 0.0
    flat = teacher.mean(dim=(1, 2), keepdim=True).expand_as(teacher)
    live = ChannelNoise([teacher[:3]])
    assert live.ratio(0, flat[:3]) == pytest.approx(1.0, abs=2e-3)
    assert np.isfinite(noise.ratio(0, teacher + 0.1))


def test_ratio_equals_a_loop_over_channels() -> None:
    torch.manual_seed(0)
    teachers, found = torch.randn(2, 5, 4, 4), torch.randn(5, 4, 4)
    variances = [float(torch.cat([t[c].flatten() for t in teachers]).var(unbiased=False))
                 for c in range(5)]  # fmt: skip
    floor = 1e-3 * sum(variances) / 5
    expected = sum(
        float((found[c] - teachers[1][c]).square().mean()) / (variances[c] + floor)
        for c in range(5)
    )
    assert ChannelNoise(list(teachers)).ratio(1, found) == pytest.approx(expected / 5)


def test_padding_is_left_out() -> None:
    embedding = torch.arange(2 * 8 * 8.0).view(1, 2, 8, 8)
    assert valid_part(embedding, (100, 200)).shape == (2, 4, 8)
    assert valid_part(embedding, (200, 200)).shape == (2, 8, 8)
    assert resize_embedding(embedding, 8) is embedding


class _Noisy:
    """A supernet whose subnets add noise that falls with the bits of their first layer."""

    geometry = GEOMETRIES["sam-vit-t"]

    def resolution(self, arch: object) -> int:
        return int(arch["resolution"])  # type: ignore[index]

    def teacher(self, images: torch.Tensor) -> torch.Tensor:
        pooled = torch.nn.functional.avg_pool2d(images, 16)
        return torch.cat([pooled, pooled.square()], dim=1)

    def embed(self, images: torch.Tensor, arch: object) -> torch.Tensor:
        exact = self.teacher(images)
        rng = torch.Generator().manual_seed(0)
        block = next(n for n in arch.genes if n.endswith("qkv.w_bits"))  # type: ignore[attr-defined]
        bits = arch[block]  # type: ignore[index]
        return exact + torch.randn(exact.shape, generator=rng) * 2.0**-bits


def _image(seed: int, height: int = 80, width: int = 120) -> LabeledImage:
    rng = np.random.default_rng(seed)
    pixels = np.asarray(rng.integers(0, 255, (height, width, 3)), dtype=np.uint8)
    return LabeledImage(f"image {seed}", pixels, np.ones((height, width), dtype=np.int32))


def _model(images: int, **options: int) -> EmbeddingDistortion:
    data = [_image(seed) for seed in range(images)]
    context = CostContext(sam_vit_t(), supernet=_Noisy, data=lambda: data)
    return EmbeddingDistortion(context, **options)


def _uniform(bits: int, resolution: int = 512) -> object:
    space = sam_vit_t()
    genes = dict(space.largest().genes)
    genes |= {n: bits for n in genes if n.endswith("w_bits")}
    return space.arch({**genes, "resolution": resolution})


def test_more_bits_and_more_pixels_distort_less() -> None:
    model = _model(2)
    by_bits = model.evaluate([_uniform(b) for b in (2, 3, 4, 8)])
    assert (np.diff(by_bits) < 0).all()
    by_pixels = model.evaluate([_uniform(8, r) for r in (128, 256, 512)])
    assert (np.diff(by_pixels) < 0).all()


def test_batch_equals_singles_and_interval_is_one_standard_error() -> None:
    model = _model(3)
    archs = [_uniform(2), _uniform(8)]
    batch = model.estimate(archs)
    assert np.array_equal(batch.value, [model.evaluate([a])[0] for a in archs])
    assert batch.lo is not None
    assert batch.hi is not None
    np.testing.assert_allclose(batch.hi - batch.value, batch.value - batch.lo)
    assert model.estimate([]).value.shape == (0,)
    assert _model(1).estimate(archs).lo is None


def test_max_images_limits_the_work() -> None:
    archs = [_uniform(4)]
    assert _model(3, max_images=1).evaluate(archs) == _model(1).evaluate(archs)
    with pytest.raises(CostError, match="max_images is 0"):
        _model(1, max_images=0)


def test_missing_supernet_is_named() -> None:
    context = CostContext(sam_vit_t(), data=lambda: [_image(0)])
    with pytest.raises(CostError, match="needs a supernet"):
        EmbeddingDistortion(context).evaluate([_uniform(4)])
