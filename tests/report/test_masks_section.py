"""Pictures of masks, curves and the page of a fine-tuning."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hwnas.errors import RunError
from hwnas.report import ReportData
from hwnas.report.curves import curves
from hwnas.report.finetuning import FinetuningReport, finetuning_html, write_finetuning_html
from hwnas.report.html import report_html
from hwnas.report.mask_panels import FOUND, TRUTH, png_bytes, with_heat, with_masks, with_prompts
from hwnas.report.masks import MaskPanel, MaskPictures, MaskRow, masks, write_masks_png

GRAY = np.full((100, 200, 3), 120, np.uint8)
NASTY = '"><script>alert("x")</script>'
PANELS = tuple(
    MaskPanel(
        title=f"model {i}", caption=f"IoU 0.{i}", pixels=np.full((20, 30, 3), 40 * i, np.uint8)
    )
    for i in range(3)
)
FOUND_MASKS = MaskPictures(
    words="How to read it.",
    rows=(
        MaskRow(name="one", lines=(PANELS, (None, None, PANELS[1]))),
        MaskRow(name="two", lines=(PANELS,)),
    ),
)


def parsed(parts: tuple[str, ...]) -> ET.Element:
    text = re.sub(r"(<img [^>]*)>", r"\1/>", "".join(parts))
    return ET.fromstring(f"<x>{text}</x>")


def decoded(image: ET.Element) -> Image.Image:
    kind, _, content = image.attrib["src"].partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content, validate=True)))


def test_every_panel_is_a_png_within_the_page() -> None:
    page = parsed(masks(FOUND_MASKS))
    images = list(page.iter("img"))
    assert len(images) == 3 + 1 + 3
    for image, shade in zip(images, (0, 40, 80, 40, 0, 40, 80), strict=True):
        picture = decoded(image)
        assert picture.size == (30, 20) == (int(image.attrib["width"]), int(image.attrib["height"]))
        assert (np.asarray(picture.convert("RGB")) == shade).all()
    assert images[3].attrib["alt"] == "one: model 1"
    captions = ["".join(c.itertext()) for c in page.iter("figcaption")]
    assert captions[:4] == ["model 0IoU 0.0", "model 1IoU 0.1", "model 2IoU 0.2", "model 1IoU 0.1"]
    first, second = (div for div in page.iter("div") if div.get("class") == "pictures")
    assert first.get("style") == "--columns: 3"
    assert [child.tag for child in first] == ["figure"] * 3 + ["div", "div", "figure"]
    assert len(second) == 3


def test_the_page_of_a_search_has_them_only_where_there_are_some(
    make_data: Callable[..., ReportData],
) -> None:
    page = report_html(make_data(masks=FOUND_MASKS))
    assert "<h2>Masks</h2>" in page
    assert page.count('<img src="data:image/png;base64,') == 7
    assert "img-src data: blob:" in page
    assert not re.search(r'<img [^>]*src="(?!data:image/png;base64,)', page)
    assert "<h2>Masks</h2>" not in report_html(make_data())
    words = report_html(make_data(masks=MaskPictures(words="Left out: no base.")))
    assert '<h2>Masks</h2><p class="quiet">Left out: no base.</p></section>' in words


def test_names_stay_names() -> None:
    nasty = MaskPanel(title=NASTY, caption=NASTY, pixels=PANELS[0].pixels)
    found = MaskPictures(words=NASTY, rows=(MaskRow(name=NASTY, lines=((nasty,),)),))
    page = parsed(masks(found))
    assert not list(page.iter("script"))
    assert "".join(page.itertext()).count(NASTY) == 4


def test_prompts_are_drawn_where_they_are() -> None:
    boxes, points = np.array([[50.0, 25, 100, 75]]), np.array([[150.0, 50]])
    boxed = with_prompts(GRAY, boxes=boxes.astype(np.float32))
    assert boxed.shape == (160, 320, 3)  # 1.6 times as large
    moved = (boxed != 120).any(-1)
    assert moved[40:120, 79:82].all(axis=0).any()
    assert not moved[44:116, 86:154].any()
    assert not moved[:, 165:].any()
    pointed = (with_prompts(GRAY, points=points.astype(np.float32)) != 120).any(-1)
    rows, columns = np.nonzero(pointed)
    assert abs(rows.mean() - 80.8) < 1
    assert abs(columns.mean() - 240.8) < 1
    assert 20 < pointed.sum() < 100


def test_masks_are_tinted_and_have_a_border() -> None:
    mask = np.zeros((1, 100, 200), bool)
    mask[0, 20:60, 100:160] = True
    drawn = with_masks(GRAY, mask, TRUTH)
    assert tuple(drawn[33, 200]) == TRUTH  # on the border
    assert tuple(drawn[10, 10]) == (96, 96, 96)
    inside = drawn[64, 208].astype(int)
    assert (abs(inside - (0.7 * 96 + 0.3 * np.array(TRUTH))) <= 1).all()
    assert not np.array_equal(drawn, with_masks(GRAY, mask, FOUND))
    assert (with_masks(GRAY, mask[:0], TRUTH) == 96).all()


def test_heat_is_lightest_at_its_largest_value() -> None:
    values = np.zeros((100, 200), np.float32)
    values[40:60, 20:40] = 7.0
    drawn = with_heat(GRAY, values).astype(int).sum(-1)
    assert drawn[80, 48] == drawn.max() > drawn[80, 200] + 200
    assert np.array_equal(with_heat(GRAY, values), with_heat(GRAY, 100 * values))
    assert len(np.unique(with_heat(GRAY, 0 * values).reshape(-1, 3), axis=0)) == 1


def test_a_palette_keeps_size_and_looks() -> None:
    y, x = np.mgrid[:64, :96]
    pixels = np.stack([2 * y, 2 * x, 255 - y - x], axis=-1).astype(np.uint8)
    again = Image.open(io.BytesIO(png_bytes(pixels)))
    assert again.size == (96, 64)
    difference = np.asarray(again.convert("RGB")).astype(int) - pixels
    assert abs(difference).max() < 16  # 6,000 colors became 256


def test_the_file_has_all_rows(tmp_path: Path) -> None:
    write_masks_png(FOUND_MASKS, tmp_path / "masks.png")
    with Image.open(tmp_path / "masks.png") as file:
        picture = file.convert("RGB")
    assert picture.size == (780, 955)  # 3 panels of 2 inches, 3 lines of 2.45, 130 dots an inch
    colors = {color for _, color in picture.getcolors(1 << 24) or []}
    assert {(0, 0, 0), (40, 40, 40), (80, 80, 80)} <= colors
    with pytest.raises(RunError, match="cannot write"):
        write_masks_png(FOUND_MASKS, tmp_path / "none" / "masks.png")


def test_curves_lie_where_their_numbers_are() -> None:
    drawn = parsed((curves({"a": [(0, 1.0), (10, 3.0)], "b": [(10, 2.0)], "none": []},
                           across="step", label="loss"),))  # fmt: skip
    (line, _) = drawn.iter("polyline")
    (x0, y0), (x1, y1) = (map(float, p.split(",")) for p in line.attrib["points"].split())
    assert x0 < x1
    assert y0 > y1  # down is more on a screen
    circles = [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in drawn.iter("circle")]
    assert circles[:2] == [(x0, y0), (x1, y1)]
    assert circles[2] == (x1, pytest.approx((y0 + y1) / 2, abs=0.11))
    texts = ["".join(t.itertext()) for t in drawn.iter("text")]
    assert {"0", "10", "1", "3", "step"} <= set(texts)
    assert [s.text for s in drawn.iter("span")] == [None, None]
    assert "".join(drawn.itertext()).endswith("ab")
    colors = {m.attrib["stroke"] for m in drawn.iter("polyline")}
    assert colors == {"var(--front)", "var(--baseline-0)"}  # follow light and dark
    assert "Nothing has been recorded." in curves({"none": []}, across="step", label="x")


REPORT = FinetuningReport(
    title="lora on sam-vit-t", facts=("data cells", "seed 0"), kinds=("box", "point"),
    iou={"base": {"box": 0.5, "point": 0.4}, "fine-tuned": {"box": 0.625, "point": 0.3}},
    charts={"loss": {"loss": [(10, 2.0), (20, 1.0)]}}, figures=[("adapters", "1.2 MB")],
    command="hwnas finetune --recipe recipe.yaml", recipe="base: sam-vit-t\n", masks=FOUND_MASKS,
)  # fmt: skip


def test_the_page_of_a_fine_tuning_is_whole_without_scripts(tmp_path: Path) -> None:
    write_finetuning_html(REPORT, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert "default-src &#x27;none&#x27;" in page
    assert page.count("data:image/png;base64,") == 7
    rows = re.findall(r"<tr><td>(.*?)</td></tr>", page)
    cells = [row.split("</td><td>") for row in rows]
    assert cells[:3] == [
        ["base", "0.5000", "0.4000"],
        ["fine-tuned", "0.6250", "0.3000"],
        ["gain", "+0.1250", "-0.1000"],
    ]
    assert ["adapters", "1.2 MB"] in cells
    for words in ("<h2>Training</h2>", "<polyline", "base: sam-vit-t", "data cells"):
        assert words in page
    plain = finetuning_html(replace(REPORT, masks=None, charts={}, title=NASTY))
    assert "<h2>Masks</h2>" not in plain
    assert "The log of the training is not there." in plain
    assert "<script" not in plain
