"""`hwnas report` of a fine-tuning: pictures of base and result, or why there are none."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from hwnas.cli.app import app
from hwnas.data.folder import find_pairs, read_pairs
from hwnas.errors import CheckpointError, ConfigError, DataError, RunError
from hwnas.supernet.checkpoint import load_sam
from hwnas.supernet.evaluation import evaluate_image
from hwnas.workflows.finetune import finetune, open_finetuned
from hwnas.workflows.mask_options import MaskOptions
from hwnas.workflows.report import write_report
from tests.workflows.finetune.finetune_folders import SMALL, write_disks, write_tiny


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch) -> Path:
    """A folder with data, a base, and a fine-tuning of it."""
    place = tmp_path_factory.mktemp("place")
    data, base = write_disks(place / "disks"), write_tiny(place / "tiny.safetensors", patch)
    finetune(data=data, out=place / "run", overrides={"base": str(base), **SMALL, "steps": 4})
    return place


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """A copy of the run, for a test to damage."""
    return shutil.copytree(place / "run", tmp_path / "run")


def captions(page: str) -> list[tuple[str, float]]:
    found = re.findall(r"<figcaption>([^<]*)<small>IoU ([\d.]+)</small>", page)
    return [(title, float(value)) for title, value in found]


def test_the_page_shows_both_models_on_images_of_val(run: Path, place: Path) -> None:
    html, png = write_report(run, MaskOptions(images=2, prompt="point"))
    page = html.read_text()
    assert [p.name for p in (html, png)] == ["report.html", "masks.png"]
    assert page.count("data:image/png;base64,") == 2 * (4 + 2)
    val = read_pairs(find_pairs(place / "disks", split="val"))
    assert re.findall(r"<h3>(disks-\d)</h3>", page) == [image.name for image in val]
    tuned, sam = open_finetuned(run), load_sam(place / "tiny.safetensors")
    expected = []
    for image in val:
        for title, model, embed in (("base", sam, None), ("fine-tuned", tuned.sam, tuned.embed)):
            scores = evaluate_image(model, image, resolution=64, prompt="point", embed=embed)
            expected.append((title, float(scores.mean())))
    found = captions(page)
    assert [title for title, _ in found] == [title for title, _ in expected]
    np.testing.assert_allclose([v for _, v in found], [v for _, v in expected], atol=6e-4)
    with Image.open(png) as picture:
        assert picture.width == 4 * 260
    facts = json.loads((run / "finetuned.json").read_text())
    for kind in ("box", "point"):
        for when in ("before", "after"):
            assert f"<td>{facts['iou'][when][kind]:.4f}</td>" in page
    assert page.count("<polyline") == 4  # loss, iou in training, val.box, val.point
    assert "<script" not in page


def test_heat_maps_of_a_block(run: Path) -> None:
    html, _ = write_report(run, MaskOptions(images=1, layer="blocks.2", heat="grad-cam"))
    page = html.read_text()
    assert "grad-cam, at blocks.2" in page
    assert page.count("data:image/png;base64,") == 6
    with pytest.raises(ConfigError, match=r"layer 'blocks\.9'"):
        write_report(run, MaskOptions(layer="blocks.9"))


def test_without_images_there_is_no_section(run: Path) -> None:
    (html,) = write_report(run, MaskOptions(images=0))
    assert "<h2>Masks</h2>" not in html.read_text()
    assert not (run / "masks.png").exists()


def test_data_that_are_gone_leave_a_sentence(run: Path, place: Path) -> None:
    state = json.loads((run / "state.json").read_text())
    state["request"]["data"] = str(run / "moved")
    (run / "state.json").write_text(json.dumps(state))
    (html,) = write_report(run)
    page = html.read_text()
    assert '<h2>Masks</h2><p class="quiet">Left out' in page
    assert "--base and --data" in page
    assert "data:image/png" not in page
    html, _ = write_report(run, MaskOptions(data=place / "disks", images=1))
    assert html.read_text().count("data:image/png;base64,") == 6
    with pytest.raises(DataError, match="nowhere"):
        write_report(run, MaskOptions(data=run / "nowhere"))


def test_a_base_that_is_gone_leaves_a_sentence(
    run: Path, place: Path, patch: pytest.MonkeyPatch
) -> None:
    facts = json.loads((run / "finetuned.json").read_text())
    facts["recipe"]["base"] = str(run / "gone.safetensors")
    (run / "finetuned.json").write_text(json.dumps(facts))
    (html,) = write_report(run)
    assert "gone.safetensors" in html.read_text()
    base = str(place / "tiny.safetensors")
    assert len(write_report(run, MaskOptions(base=base, images=1))) == 2
    other = write_tiny(run / "other.safetensors", patch, seed=1)
    with pytest.raises(CheckpointError, match="from other weights"):
        write_report(run, MaskOptions(base=str(other)))


def test_images_are_of_the_kinds_that_it_was_trained_on(run: Path) -> None:
    facts = json.loads((run / "finetuned.json").read_text())
    facts["recipe"]["kinds"] = ["dark"]
    (run / "finetuned.json").write_text(json.dumps(facts))
    page = write_report(run)[0].read_text()
    assert re.findall(r"<h3>(disks-\d)</h3>", page) == ["disks-5"]  # val has disks-4, too
    assert "kinds dark" in page


def test_a_subnet_beside_its_base(place: Path, tmp_path: Path) -> None:
    """Base and result are the same plan, the base without the fresh adapter."""
    changes = {**SMALL, "base": "sam-vit-t", "arch": "smallest", "steps": 1, "resolution": 128,
               "validation.final_images": 1}  # fmt: skip
    finetune(data=place / "disks", out=tmp_path / "run", overrides=changes)
    html, _ = write_report(tmp_path / "run", MaskOptions(images=1))
    page = html.read_text()
    assert "lora on a subnet of sam-vit-t" in page
    assert [title for title, _ in captions(page)] == ["base", "fine-tuned"]


def test_a_log_that_a_kill_cut_short(run: Path) -> None:
    log = run / "log.jsonl"
    log.write_text(log.read_text() + '{"stage": "finetune", "st')
    (html,) = write_report(run, MaskOptions(images=0))
    assert "<polyline" in html.read_text()
    log.unlink()
    (html,) = write_report(run, MaskOptions(images=0))
    assert "The log of the training is not there." in html.read_text()


def test_the_command_line(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(run), "--images", "1", "--prompt", "point"])
    assert done.exit_code == 0, done.output
    assert done.stdout.split() == [str(run / "report.html"), str(run / "masks.png")]
    wrong = CliRunner().invoke(app, ["report", str(run), "--heat", "lime"])
    assert isinstance(wrong.exception, ConfigError)
    (run / "finetuned.json").unlink()
    with pytest.raises(RunError, match="not a run folder"):
        write_report(run)
