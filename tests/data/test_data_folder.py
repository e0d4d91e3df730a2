"""Reading annotated images, and every complaint about bad folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.data.duplicates import similarity
from hwnas.data.embedded import embedded_image
from hwnas.data.folder import find_pairs, read_pair, read_pairs
from hwnas.errors import DataError


def write_pair(folder: Path, name: str, marks: str = "instances") -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / marks).mkdir(parents=True, exist_ok=True)
    image = np.full((20, 30), 7, np.uint8)
    ids = np.zeros((20, 30), np.uint16)
    ids[2:6, 3:9] = 300 if marks == "instances" else 255
    ids[10:12, 20:25] = 5 if marks == "instances" else 255
    Image.fromarray(image).save(folder / "images" / f"{name}.png")
    dtype = np.uint16 if marks == "instances" else np.uint8
    Image.fromarray(ids.astype(dtype)).save(folder / marks / f"{name}.png")


def test_instances_keep_their_ids_and_gray_becomes_three_channels(tmp_path: Path) -> None:
    write_pair(tmp_path, "a")
    (labeled,) = read_pairs(find_pairs(tmp_path))
    assert labeled.image.shape == (20, 30, 3)
    assert labeled.image.dtype == np.uint8
    assert set(np.unique(labeled.instances)) == {0, 5, 300}


def test_connected_parts_of_a_binary_mask_are_objects(tmp_path: Path) -> None:
    write_pair(tmp_path, "a", "masks")
    labeled = read_pair(find_pairs(tmp_path)[0])
    assert set(np.unique(labeled.instances)) == {0, 1, 2}


def test_split_picks_rows_and_carries_the_kind(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_pair(tmp_path, name)
    rows = "name,file,split,kind\na,a.png,train,dark\nb,b.png,test,bright\n"
    (tmp_path / "split.csv").write_text(rows, encoding="utf-8")
    assert [(p.name, p.kind) for p in find_pairs(tmp_path, split="test")] == [("b", "bright")]
    assert len(find_pairs(tmp_path)) == 2
    with pytest.raises(DataError, match=r"no split 'tset'; it has test, train"):
        find_pairs(tmp_path, split="tset")


def test_all_mismatches_are_named_at_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_pair(tmp_path, name)
    (tmp_path / "images" / "a.png").unlink()
    (tmp_path / "instances" / "b.png").unlink()
    with pytest.raises(DataError) as caught:
        find_pairs(tmp_path)
    text = str(caught.value)
    assert "2 problems" in text
    assert "instances/a.png: no image" in text
    assert "b.png: no mask" in text


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the folders images/"):
        find_pairs(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="no files ending in"):
        find_pairs(tmp_path)


def test_all_unusable_files_are_named_at_once(tmp_path: Path) -> None:
    for name in ("broken", "empty", "other", "fine"):
        write_pair(tmp_path, name)
    (tmp_path / "images" / "broken.png").write_bytes(b"not an image")
    Image.fromarray(np.zeros((20, 30), np.uint16)).save(tmp_path / "instances" / "empty.png")
    Image.fromarray(np.ones((9, 9), np.uint16)).save(tmp_path / "instances" / "other.png")
    with pytest.raises(DataError) as caught:
        read_pairs(find_pairs(tmp_path))
    text = str(caught.value)
    assert "3 of 4 pairs" in text
    assert "cannot be read as an image" in text
    assert "no object" in text
    assert "9x9 pixels, its image other.png has 30x20" in text


def test_the_embedded_picture_has_125_nuclei() -> None:
    labeled = embedded_image()
    assert labeled.image.shape == (512, 512, 3)
    assert len(np.unique(labeled.instances)) - 1 == 125


def test_a_crop_is_found_and_another_picture_is_not() -> None:
    image = embedded_image().image
    crop = image[64:320, 100:400]
    dimmed = (crop * 0.5 + 20).astype(np.uint8)
    other = np.random.default_rng(0).integers(0, 255, (256, 256, 3)).astype(np.uint8)
    assert similarity(image, dimmed) > 0.95
    assert similarity(image, other) < 0.5
