"""COCO annotations: hand-made run lengths and polygons, and whole files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hwnas.data.coco_masks import decode_counts, decode_segmentation, fill_polygon, unpack_counts
from hwnas.data.folder import find_pairs, read_pair, read_pairs
from hwnas.errors import DataError


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("231N", [2, 3, 1, 1]),  # the fourth is stored as 1 - 3 = -2, five bits 11110
        ("X1", [40]),  # 8 with "more follows", then 1
        ("`0", [16]),  # the sign bit of the first group is set, so a zero group follows
        ("T30", [100, 0]),
        ("", []),
    ],
)
def test_run_length_strings(text: str, counts: list[int]) -> None:
    assert unpack_counts(text) == counts


def pack(counts: list[int]) -> str:
    """The inverse, written after the format's description."""
    out = ""
    for i, count in enumerate(counts):
        number = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            group, number = number & 31, number >> 5
            more = number != (-1 if group & 16 else 0)
            out += chr(48 + group + (32 if more else 0))
    return out


def test_random_run_lengths_survive_packing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts = rng.integers(0, 5000, 30).tolist()
        assert unpack_counts(pack(counts)) == counts


@pytest.mark.parametrize("text", ["2T", "2é", "2 "])
def test_damaged_strings_are_refused(text: str) -> None:
    with pytest.raises(DataError, match="run-length string"):
        unpack_counts(text)


def test_counts_run_down_the_columns() -> None:
    mask = decode_counts([1, 2, 2, 1], 2, 3)
    assert mask.astype(int).tolist() == [[0, 1, 0], [1, 0, 1]]
    with pytest.raises(DataError, match="sum up to 5, expected 6"):
        decode_counts([1, 4], 2, 3)
    with pytest.raises(DataError, match="3x2 pixels, the image has 2x2"):
        decode_segmentation({"size": [2, 3], "counts": [6]}, 2, 2)


def test_a_rectangle_fills_the_pixels_between_its_edges() -> None:
    mask = fill_polygon([2, 1, 6, 1, 6, 4, 2, 4], 6, 8)
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    assert (mask == expected).all()


def inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """Even-odd rule, one ray to the left."""
    odd = False
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (ay <= y) != (by <= y) and ax + (y - ay) * (bx - ax) / (by - ay) <= x:
            odd = not odd
    return odd


def test_polygons_equal_the_rule_pixel_by_pixel() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        corners = [
            (float(x), float(y)) for x, y in rng.uniform(-5, 25, (int(rng.integers(3, 9)), 2))
        ]
        mask = fill_polygon([c for pair in corners for c in pair], 20, 17)
        truth = [[inside(x + 0.5, y + 0.5, corners) for x in range(17)] for y in range(20)]
        assert (mask == np.array(truth)).all()


def write_coco(folder: Path, **changes: Any) -> Path:
    (folder / "images").mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(np.full((10, 12, 3), 90, np.uint8)).save(folder / "images" / f"{name}.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png"}, {"id": 9, "file_name": "b.png"}],
        "categories": [{"id": 4, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 4, "iscrowd": 0,
             "segmentation": [[0, 0, 8, 0, 8, 8, 0, 8]]},
            {"id": 2, "image_id": 7, "category_id": 2, "iscrowd": 0,
             "segmentation": [[2, 2, 4, 2, 4, 4, 2, 4]]},
            {"id": 3, "image_id": 7, "category_id": 2, "iscrowd": 1,
             "segmentation": {"size": [10, 12], "counts": [100, 20]}},
        ],
    } | changes  # fmt: skip
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def test_small_objects_lie_on_top_and_crowds_are_ignored(tmp_path: Path) -> None:
    pairs = find_pairs(write_coco(tmp_path / "data"))
    assert [pair.name for pair in pairs] == ["a"]  # b has no annotation
    labeled = read_pair(pairs[0])
    assert labeled.classes == ("cat", "dog")  # by category id
    assert labeled.labels is not None
    assert labeled.labels[3, 3] == 1
    assert labeled.labels[0, 0] == 2
    assert labeled.labels[9, 11] == 255
    assert labeled.ignored is not None
    assert labeled.ignored.sum() == 20
    assert np.unique(labeled.instances, return_counts=True)[1].tolist() == [120 - 64, 60, 4]


def test_images_without_annotations_can_be_kept(tmp_path: Path) -> None:
    pairs = find_pairs(write_coco(tmp_path / "data"), allow_empty=True)
    assert [image.name for image in read_pairs(pairs)] == ["a", "b"]


def test_everything_that_does_not_fit_is_named(tmp_path: Path) -> None:
    wrong = [
        {"id": 1, "image_id": 8, "category_id": 4, "segmentation": []},
        {"id": 2, "image_id": 7, "category_id": 3, "segmentation": []},
        {"id": 3, "image_id": 7, "category_id": 4},
    ]
    write_coco(tmp_path / "data", annotations=wrong)
    (tmp_path / "data" / "images" / "b.png").unlink()
    with pytest.raises(DataError) as caught:
        find_pairs(tmp_path / "data")
    for part in ("4 problems", "unknown image 8", "unknown category 3", "no segmentation",
                 "image 9 (b.png) is missing"):  # fmt: skip
        assert part in str(caught.value)


def test_annotations_that_cannot_be_decoded_are_named(tmp_path: Path) -> None:
    wrong = [[[1, 2, 3, 4]], {"size": [10, 12], "counts": "X"}]
    bad = [
        {"id": number, "image_id": 7, "category_id": 4, "segmentation": segmentation}
        for number, segmentation in enumerate(wrong, start=5)
    ]
    (pair,) = find_pairs(write_coco(tmp_path / "data", annotations=bad))
    with pytest.raises(DataError, match=r"annotation 5: polygon needs.*annotation 6: run-length"):
        read_pair(pair)


def test_splits_come_from_the_names_of_the_files(tmp_path: Path) -> None:
    write_coco(tmp_path / "data")
    source = tmp_path / "data" / "annotations.json"
    content = json.loads(source.read_text())
    for number, split in enumerate(("train2017", "val2017")):
        image = content["images"][number]
        part = [{**content["annotations"][0], "image_id": image["id"]}]
        text = json.dumps({**content, "images": [image], "annotations": part})
        (tmp_path / "data" / f"instances_{split}.json").write_text(text)
    source.unlink()
    assert [p.name for p in find_pairs(tmp_path / "data", split="val")] == ["b"]
    with pytest.raises(DataError, match="no split 'test'; it has train, val"):
        find_pairs(tmp_path / "data", split="test")


def test_a_file_that_is_not_coco(tmp_path: Path) -> None:
    (tmp_path / "annotations.json").write_text('{"images": []}')
    with pytest.raises(DataError, match="no list annotations, categories"):
        find_pairs(tmp_path)
    (tmp_path / "annotations.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        find_pairs(tmp_path)
