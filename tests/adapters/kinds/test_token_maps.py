"""Windows and images, against SAM's own partition."""

from __future__ import annotations

import pytest
import torch

from hwnas.adapters.kinds.token_maps import (
    ImageGrid,
    as_maps,
    as_tokens,
    joined,
    real_tokens,
    windowed,
)
from hwnas.errors import ConfigError
from hwnas.supernet.torchvision_shim import ensure_torchvision


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5), (3, 3)])
def test_windows_are_joined_as_sam_does(height: int, width: int) -> None:
    ensure_torchvision()
    from segment_anything.modeling.image_encoder import window_partition, window_unpartition

    x = torch.rand(2, height, width, 5, generator=torch.Generator().manual_seed(0)) + 1
    windows, padded = window_partition(x, 3)
    found = joined(windows, ImageGrid(2, height, width))
    assert torch.equal(found[:, :height, :width], x)
    stock = window_unpartition(windows, 3, padded, (height, width))
    assert torch.equal(found[:, :height, :width], stock)
    assert torch.equal(windowed(found, 3, 3), windows)
    real = real_tokens(found.permute(0, 3, 1, 2))
    assert int(real.sum()) == 2 * height * width


def test_an_image_stays_as_it_is() -> None:
    x = torch.rand(2, 4, 6, 5)
    assert torch.equal(joined(x, ImageGrid(2, 4, 6)), x)
    with pytest.raises(ConfigError, match="2 windows of 4 x 6 tokens are not 3 images of 4 x 6"):
        joined(x, ImageGrid(3, 4, 6))


def test_maps_and_tokens() -> None:
    x = torch.rand(2, 9, 5)
    maps = as_maps(x)
    assert maps.shape == (2, 5, 3, 3)
    assert torch.equal(as_tokens(maps, x.shape), x)
