"""Tiles against their definitions: what is counted, what is turned, how classes are parted."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.data.labeled import LabeledImage
from hwnas.data.tiles import balanced_rows, count_classes, count_edges, cut_tiles
from hwnas.errors import DataError


def blocks(height: int, width: int, corners: list[tuple[int, int]]) -> LabeledImage:
    """White squares of 4 x 4 pixels on black, each an object."""
    ids = np.zeros((height, width), dtype=np.int32)
    for number, (top, left) in enumerate(corners, start=1):
        ids[top : top + 4, left : left + 4] = 3 * number  # ids have gaps
    pixels = np.repeat((255 * (ids > 0)).astype(np.uint8)[..., None], 3, axis=2)
    return LabeledImage("blocks", pixels, ids)


CORNERS = [(2, 3), (20, 40), (33, 8), (10, 25)]


def test_a_tile_of_the_whole_image_counts_every_object() -> None:
    image = blocks(48, 48, CORNERS)
    tiles = cut_tiles([image], 5, side=16, span=100, rng=np.random.default_rng(0))
    assert tiles.counts.tolist() == [4] * 5
    assert tiles.pixels.shape == (5, 16, 16, 3)
    assert tiles.masks.shape == (5, 16, 16)


def test_masks_are_turned_as_pixels_are() -> None:
    tiles = cut_tiles([blocks(48, 64, CORNERS)], 40, side=24, span=24, rng=np.random.default_rng(1))
    assert ((tiles.pixels[..., 0] > 0) == (tiles.masks > 0)).all()
    assert len({tile.tobytes() for tile in tiles.masks}) > 20


def test_an_object_counts_where_its_center_is() -> None:
    # one object: windows of 8 pixels that hold (21.5, 41.5) have their corner in a square of 8
    image = blocks(64, 64, [(20, 40)])
    tiles = cut_tiles([image], 4000, side=8, span=8, rng=np.random.default_rng(2))
    held = tiles.masks.sum(axis=(1, 2))
    assert set(tiles.counts.tolist()) == {0, 1}
    assert (
        held[tiles.counts == 1] >= 4
    ).all()  # a quarter of it, where the window ends at a center
    assert (held[tiles.counts == 0] < 16).all()
    assert tiles.counts.mean() == pytest.approx(64 / 57**2, rel=0.25)


def test_objects_of_several_images_are_not_mixed_up() -> None:
    images = [blocks(32, 32, CORNERS[:1]), blocks(32, 32, []), blocks(32, 32, [(0, 0), (9, 9)])]
    tiles = cut_tiles(images, 60, side=8, span=32, rng=np.random.default_rng(3))
    assert (tiles.counts == np.array([1, 0, 2])[tiles.sources]).all()
    again = cut_tiles(images, 60, side=8, span=32, rng=np.random.default_rng(3))
    assert (again.pixels == tiles.pixels).all()


def test_edges_part_counts_as_evenly_as_they_can() -> None:
    counts = np.array([0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7])
    assert count_edges(counts, 3) == (1, 4)
    assert np.bincount(count_classes(counts, (1, 4))).tolist() == [4, 4, 4]
    assert count_classes(np.array([0, 1, 3, 4, 99]), (1, 4)).tolist() == [0, 1, 1, 2, 2]
    # nine in ten are 0: each other number is a class of its own
    assert count_edges(np.array([0] * 18 + [1, 5]), 3) == (1, 5)
    with pytest.raises(DataError, match="2 different numbers of objects; expected at least 3"):
        count_edges(np.array([4, 4, 7]), 3)


def test_rows_are_balanced_and_all_different() -> None:
    labels = np.repeat([0, 1, 2], [50, 10, 400])
    rows = balanced_rows(labels, 3, 20, np.random.default_rng(0))
    assert len(rows) == len(set(rows.tolist())) == 20
    assert np.ptp(np.bincount(labels[rows])) <= 1
    few = balanced_rows(labels, 3, 300, np.random.default_rng(0))
    assert np.bincount(labels[few]).tolist() == [10, 10, 10]
    with pytest.raises(DataError, match="no tile is of class 3 of 4"):
        balanced_rows(labels, 4, 20, np.random.default_rng(0))
