"""Clips of moving crops from still images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hwnas.data.clips import clips_of
from hwnas.data.embedded import embedded_image
from hwnas.data.labeled import LabeledImage
from hwnas.errors import DataError


def places(image: LabeledImage, frame: LabeledImage) -> list[tuple[int, int]]:
    """Where a frame lies in its image."""
    side = frame.size[0]
    windows = np.lib.stride_tricks.sliding_window_view(image.image[..., 0], (side, side))
    first = windows[:, :, 0, :8] == frame.image[0, :8, 0]
    return [
        (int(y), int(x))
        for y, x in zip(*np.nonzero(first.all(-1)), strict=True)
        if np.array_equal(image.image[y : y + side, x : x + side], frame.image)
    ]


def test_frames_are_parts_of_the_picture_with_their_masks() -> None:
    image = embedded_image()
    (clip,) = clips_of(image, 6, np.random.default_rng(3), travel=0.4)
    path = []
    for frame in clip:
        ((y, x),) = places(image, frame)
        side = frame.size[0]
        assert np.array_equal(image.instances[y : y + side, x : x + side], frame.instances)
        assert frame.instances.any()
        path.append((y, x))
    steps = np.diff(np.array(path), axis=0)
    assert steps.any()
    # one direction throughout, and no jump
    assert all(len(set(np.sign(steps[:, i])) - {0}) <= 1 for i in (0, 1))
    assert np.abs(steps).max() <= 0.4 * clip[0].size[0] * 1.5 / 5 + 1
    assert [frame.name for frame in clip] == [f"nuclei@{i}" for i in range(6)]


def test_clips_depend_on_the_generator_alone() -> None:
    image = embedded_image()
    one, same, other = (
        clips_of(image, 3, np.random.default_rng(seed), count=2) for seed in (1, 1, 2)
    )
    pairs = [(a, b) for c, d in zip(one, same, strict=True) for a, b in zip(c, d, strict=True)]
    assert all(np.array_equal(a.image, b.image) for a, b in pairs)
    assert not np.array_equal(one[0][0].image, other[0][0].image)
    assert not np.array_equal(one[0][0].image, one[1][0].image)


def lonely(size: int = 40) -> LabeledImage:
    ids = np.zeros((size, size), np.int32)
    ids[-3:, 1:4] = 7
    gray = np.arange(size * size, dtype=np.uint32).reshape(size, size) % 251
    labels = (ids > 0).astype(np.uint8)
    return LabeledImage("l", np.repeat(gray[..., None], 3, 2).astype(np.uint8), ids, "", labels)


def test_a_lonely_object_is_in_every_frame() -> None:
    for seed in range(10):
        (clip,) = clips_of(lonely(), 4, np.random.default_rng(seed), side=0.25)
        for frame in clip:
            assert frame.size == (10, 10)
            assert set(np.unique(frame.instances)) == {0, 7}
            assert frame.labels is not None
            assert np.array_equal(frame.labels > 0, frame.instances > 0)


def test_an_empty_image_gives_clips_too() -> None:
    image = LabeledImage("e", np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30), np.int32))
    (clip,) = clips_of(image, 2, np.random.default_rng(0), side=1)
    assert [frame.size for frame in clip] == [(20, 20)] * 2


@pytest.mark.parametrize("options", [{"frames": 0}, {"side": 0}, {"side": 1.5}, {"travel": -1}])
def test_impossible_clips_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="expected a frame or more"):
        clips_of(lonely(), **{"frames": 2, "rng": np.random.default_rng(0), **options})
