"""Label maps, class files, splits, and every kind of image and mask file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.data.classes import check_classes, read_classes
from hwnas.data.folder import LabeledImage, find_pairs, read_pair, read_pairs
from hwnas.data.image_files import read_image, read_marks
from hwnas.data.splits import drawn_split
from hwnas.data.views import draw_view
from hwnas.errors import DataError


def write_labels(folder: Path, names: str = "ab", values: tuple[int, ...] = (1, 2)) -> Path:
    for name in names:
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 24, 3), 50, np.uint8)).save(folder / "images" / f"{name}.png")
        labels = np.zeros((16, 24), np.uint8)
        for i, value in enumerate(values):
            labels[2 : 6 + i, 3 + 5 * i : 7 + 5 * i] = value
        Image.fromarray(labels).save(folder / "labels" / f"{name}.png")
    return folder


def test_label_maps_give_classes_and_objects(tmp_path: Path) -> None:
    write_labels(tmp_path, values=(1, 255, 2))
    (tmp_path / "classes.txt").write_text("cell\nvessel\n")
    labeled = read_pairs(find_pairs(tmp_path))[0]
    assert labeled.classes == ("cell", "vessel")
    assert labeled.labels is not None
    assert np.unique(labeled.labels).tolist() == [0, 1, 2, 255]
    assert np.unique(labeled.instances).tolist() == [0, 1, 2]  # ignored pixels are no object
    assert labeled.ignored is not None
    assert (labeled.semantic == labeled.labels).all()


def test_without_a_class_file_values_are_numbered(tmp_path: Path) -> None:
    write_labels(tmp_path, values=(1, 4))
    assert find_pairs(tmp_path)[0].class_map is not None
    assert read_pair(find_pairs(tmp_path)[0]).classes == tuple(f"class {n}" for n in range(1, 5))


def test_sparse_values_become_consecutive(tmp_path: Path) -> None:
    write_labels(tmp_path, values=(7, 30))
    (tmp_path / "classes.json").write_text('{"0": "background", "30": "sky", "7": "road"}')
    labeled = read_pair(find_pairs(tmp_path)[0])
    assert labeled.classes == ("road", "sky")
    assert set(np.unique(labeled.semantic)) == {0, 1, 2}


def test_unknown_class_values_are_named(tmp_path: Path) -> None:
    write_labels(tmp_path, values=(1, 9, 12))
    (tmp_path / "classes.json").write_text('["cell", "vessel"]')
    with pytest.raises(DataError, match=r"a.png: pixel values 9, 12 are no classes; classes.json "
                       r"names 1 to 2") as caught:  # fmt: skip
        read_pairs(find_pairs(tmp_path))
    assert "2 of 2 pairs" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [('["a", "a"]', "'a' is named twice"), ("[]", "no class"), ("{", "expected names"),
     ('{"x": "a"}', "expected names"), ('{"255": "a"}', "it means ignored"), ("3", "int; expected"),
     ('{"-1": "a"}', "use 1 or more"), (json.dumps([f"c{i}" for i in range(300)]), "300 classes")],
)  # fmt: skip
def test_class_files_that_make_no_sense(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(DataError, match=part):
        read_classes(tmp_path)


def images(*labels: int, n: int = 1) -> list[LabeledImage]:
    pixels = np.zeros((8, 8, 3), np.uint8)
    classes = np.zeros((8, 8), np.uint8)
    classes[0, : len(labels)] = labels
    ids = (classes > 0).astype(np.int32)
    return [LabeledImage("x", pixels, ids, labels=classes, classes=("a", "b"))] * n


def test_a_class_that_never_occurs_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    assert check_classes(images(1), images(1)) == ["b"]
    assert "no pixel is of class 'b'" in caplog.text
    assert check_classes(images(1, 2)) == []


def test_a_class_of_validation_only_is_an_error() -> None:
    with pytest.raises(DataError, match="b: in the validation split and never in the training"):
        check_classes(images(1), images(1, 2))


def test_a_drawn_split_does_not_move_when_images_are_added(tmp_path: Path) -> None:
    names = [f"image{i}" for i in range(1000)]
    splits = [drawn_split(name, 3) for name in names]
    assert 760 < splits.count("train") < 840
    assert 70 < splits.count("val") < 130
    assert splits != [drawn_split(name, 4) for name in names]
    write_labels(tmp_path, "abcdef")
    before = {p.name: p.split for p in find_pairs(tmp_path, split_seed=1)}
    write_labels(tmp_path, "xyz")
    after = {p.name: p.split for p in find_pairs(tmp_path, split_seed=1)}
    assert before.items() <= after.items()
    with pytest.raises(DataError, match="sum up to 1"):
        find_pairs(tmp_path, split_seed=1, fractions=(0.5, 0.1, 0.1))


def test_lists_of_names_pick_and_free_the_rest_from_needing_masks(tmp_path: Path) -> None:
    write_labels(tmp_path, "abc")
    (tmp_path / "labels" / "c.png").unlink()
    (tmp_path / "train.txt").write_text("a.png\n")
    (tmp_path / "val.txt").write_text("b\n")
    assert [p.name for p in find_pairs(tmp_path, split="val")] == ["b"]
    assert [p.name for p in find_pairs(tmp_path)] == ["a", "b"]
    (tmp_path / "val.txt").write_text("a\nq\n")
    with pytest.raises(DataError) as caught:
        find_pairs(tmp_path)
    assert "val.txt: a is in train.txt too" in str(caught.value)
    assert "val.txt: q has no image" in str(caught.value)


def test_the_same_stem_twice_is_refused(tmp_path: Path) -> None:
    write_labels(tmp_path, "a")
    Image.fromarray(np.zeros((16, 24, 3), np.uint8)).save(tmp_path / "images" / "a.jpg")
    with pytest.raises(DataError, match=r"a.jpg and a.png have the same stem"):
        find_pairs(tmp_path)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "I;16", "1", "CMYK"])
def test_every_kind_of_image_becomes_rgb(tmp_path: Path, mode: str) -> None:
    ramp = np.tile(np.arange(0, 200, 10, dtype=np.uint8), (10, 1))
    if mode == "I;16":
        picture = Image.fromarray(ramp.astype(np.uint16) * 300)
    else:
        picture = Image.fromarray(ramp).convert(mode)
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    picture.save(path)
    image = read_image(path)
    assert image.shape == (10, 20, 3)
    assert image.dtype == np.uint8
    assert image[0, 0].max() < image[0, 19].min()


def test_a_palette_mask_gives_its_indexes(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 2))
    palette.putpalette([200, 10, 10] * 256)
    palette.putdata([0, 1, 2, 255])
    palette.save(tmp_path / "m.png")
    assert read_marks(tmp_path / "m.png", binary=False).tolist() == [[0, 1], [2, 255]]


def test_masks_of_other_forms(tmp_path: Path) -> None:
    gray = np.zeros((9, 9), np.uint8)
    gray[2:6, 2:6] = 200
    Image.fromarray(np.repeat(gray[..., None], 3, 2)).save(tmp_path / "gray.png")
    Image.fromarray(gray).save(tmp_path / "gray.jpg")
    color = np.dstack([gray, gray * 0, gray])
    Image.fromarray(color).save(tmp_path / "color.png")
    assert read_marks(tmp_path / "gray.png", binary=True).sum() == 16
    assert read_marks(tmp_path / "gray.jpg", binary=True).sum() == 16
    with pytest.raises(DataError, match="JPEG changes pixel values"):
        read_marks(tmp_path / "gray.jpg", binary=False)
    with pytest.raises(DataError, match="color image"):
        read_marks(tmp_path / "color.png", binary=True)


def test_tiny_truncated_and_empty_files_are_all_named(tmp_path: Path) -> None:
    write_labels(tmp_path, "abcd")
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save(tmp_path / "images" / "a.png")
    whole = (tmp_path / "images" / "b.png").read_bytes()
    (tmp_path / "images" / "b.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.zeros((16, 24), np.uint8)).save(tmp_path / "labels" / "c.png")
    with pytest.raises(DataError) as caught:
        read_pairs(find_pairs(tmp_path))
    for part in ("3 of 4", "1x1 pixels; expected at least 8", "cannot be read as an image",
                 "--allow-empty"):  # fmt: skip
        assert part in str(caught.value)


def test_empty_masks_can_be_allowed(tmp_path: Path) -> None:
    write_labels(tmp_path, "a")
    (tmp_path / "classes.txt").write_text("cell\n")
    Image.fromarray(np.zeros((16, 24), np.uint8)).save(tmp_path / "labels" / "a.png")
    (labeled,) = read_pairs(find_pairs(tmp_path, allow_empty=True))
    assert not labeled.instances.any()
    view = draw_view(labeled, 64, np.random.default_rng(0), crop=1.0, recolor=False)
    assert view.labels is not None


def test_labels_turn_with_their_objects(tmp_path: Path) -> None:
    write_labels(tmp_path, "a")
    labeled = read_pair(find_pairs(tmp_path)[0])
    for seed in range(8):
        view = draw_view(labeled, 64, np.random.default_rng(seed), crop=0.5, recolor=False)
        assert view.labels is not None
        inside = view.labels[: view.height, : view.width]
        assert ((inside > 0) == (view.instances[: view.height, : view.width] > 0)).all()
        assert (view.labels[view.height :] == 255).all()
        plain = LabeledImage("x", labeled.image, labeled.instances)
        other = draw_view(plain, 64, np.random.default_rng(seed), crop=0.5, recolor=False)
        assert (other.instances == view.instances).all()
        assert ((other.semantic > 0) == (view.labels > 0)).all()
