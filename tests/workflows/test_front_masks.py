"""Masks of a few front designs in the report of a search, and when there are none."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwnas.config import make_config
from hwnas.data.embedded import embedded_image
from hwnas.data.prompts import Prompts, prompts_of
from hwnas.data.scores import iou_of_masks
from hwnas.data.transforms import preprocess
from hwnas.errors import ConfigError, DataError
from hwnas.supernet.evaluation import predict_masks
from hwnas.supernet.sam_supernet import build
from hwnas.workflows import front_masks as module
from hwnas.workflows.front_masks import front_masks, sees_masks
from hwnas.workflows.mask_options import MaskOptions
from hwnas.workflows.report import write_report
from hwnas.workflows.resolve import resolve
from hwnas.workflows.search import run_search
from tests.workflows.finetune.finetune_folders import write_disks

SMALL: dict[str, Any] = {
    "space": "sam-vit-t", "objectives": ["bitops", "iou"], "rescore": "bitops",
    "options": {"iou": {"max_prompts": 2}}, "freeze": {"resolution": 128}, "algorithm": "random",
    "max_evaluations": 3, "population": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run_search(make_config("test", dict(SMALL)), out=out)
    return out


def figures(page: str) -> list[str]:
    return re.findall(r"<figcaption>([^<]*)<small>", page)


def test_the_report_of_a_search_shows_masks_of_front_designs(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert (run / "masks.png").is_file()
    shown = figures(page)
    assert shown[:2] == ["image and prompts", "annotation"]
    designs = shown[2 : 2 + (len(shown) - 2) // 2]
    assert shown[2 + len(designs) :] == [f"{name}, heat map" for name in designs]
    assert page.count('<img src="data:image/png;base64,') == len(shown)
    assert 1 <= len(designs) <= 3
    labels = re.findall(r'<span class="label found">([^<]*)</span>', page)
    assert set(designs) <= set(labels)


def test_captions_are_the_iou_of_the_design(run: Path) -> None:
    config = make_config("test", dict(SMALL))
    live = resolve(config)
    arch = live.space.smallest()
    design: Any = SimpleNamespace(genes=arch.genes)
    found = front_masks(live, {"one": design}, MaskOptions(objects=3))
    assert found is not None
    (row,) = found.rows
    panel = row.lines[0][2]
    assert panel is not None
    image, net = embedded_image(), build("sam-vit-t")
    every = prompts_of(image.instances)
    rows = [0, (len(every.ids) - 1) // 2, len(every.ids) - 1]
    prompts = Prompts(every.ids[rows], every.boxes[rows], every.points[rows])
    embedding = net.embed(preprocess(image.image, net.resolution(arch))[None], arch)
    masks = predict_masks(net.sam, embedding, image.size, prompts, prompt="box").numpy()
    truths = image.instances == prompts.ids[:, None, None]
    iou = float(iou_of_masks(masks, truths).mean())
    assert float(panel.caption.removeprefix("IoU ")) == pytest.approx(iou, abs=6e-4)
    assert "(3 of " in found.words


def test_a_search_without_images_has_no_section(tmp_path: Path) -> None:
    toy = make_config("test", {"space": "toy", "max_evaluations": 20, "population": 4})
    run_search(toy, out=tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<h2>Masks</h2>" not in page
    assert not (tmp_path / "run" / "masks.png").exists()
    assert len(write_report(tmp_path / "run")) == 2
    counted = make_config("test", {**SMALL, "objectives": ["bitops", "macs"], "options": {}})
    assert not sees_masks(resolve(counted))
    assert sees_masks(resolve(make_config("test", dict(SMALL))))


def test_other_images_and_none(run: Path, tmp_path: Path) -> None:
    data = write_disks(tmp_path / "disks")
    html, _, png = write_report(run, MaskOptions(data=data, images=2))
    page = html.read_text()
    assert png.name == "masks.png"
    assert re.findall(r"<h3>(disks-\d)</h3>", page) == ["disks-4", "disks-5"]  # val, never test
    assert "<h2>Masks</h2>" not in write_report(run, MaskOptions(images=0))[0].read_text()
    with pytest.raises(DataError, match="nowhere"):
        write_report(run, MaskOptions(data=tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="no finished fine-tuning"):
        write_report(run, MaskOptions(base="sam-vit-t"))


def test_what_goes_wrong_is_said_and_the_report_is_written(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("the supernet of a stranger")

    monkeypatch.setattr(module, "require_embedding", broken)
    html, png = write_report(run)
    assert png.name == "front.png"
    assert '<p class="quiet">Left out: the supernet of a stranger</p>' in html.read_text()


def test_objects_are_spread_evenly() -> None:
    from hwnas.workflows.masks import _spread

    assert _spread(3, 8).tolist() == [0, 1, 2]
    assert _spread(9, 3).tolist() == [0, 4, 8]
    assert np.diff(_spread(125, 8)).min() > 15
