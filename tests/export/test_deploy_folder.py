"""The smallest subnet of the shipped supernet as a folder: whole, verified, and run alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

from hwnas.data.embedded import embedded_image
from hwnas.data.prompts import prompts_of
from hwnas.data.transforms import preprocess
from hwnas.errors import ArchError, ConfigError, ExportError, RunError
from hwnas.export import onnx_form
from hwnas.export.torch_form import load_subnet
from hwnas.workflows.export import Exported, check_export, export
from hwnas.workflows.export_source import ExportSource, open_source

PICTURE = Path(__file__).parents[2] / "hwnas" / "assets" / "nuclei" / "image.png"


@pytest.fixture(scope="module")
def source() -> ExportSource:
    return open_source("smallest", space="sam-vit-t", device="host")


@pytest.fixture(scope="module")
def exported(source: ExportSource, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    return export(source, tmp_path_factory.mktemp("deploy") / "out")


def _card(exported: Exported) -> dict[str, Any]:
    return json.loads((exported.folder / "card.json").read_text())


def test_its_files_are_those_of_the_card(exported: Exported) -> None:
    card = _card(exported)
    names = {p.name for p in exported.folder.iterdir()}
    assert names == {*card["files"], "card.json", "card.md"}
    assert names >= {"encoder.onnx", "decoder.onnx", "encoder.safetensors", "decoder.safetensors",
                     "run.py", "mask.png", "NOTICE"}  # fmt: skip
    for name, facts in card["files"].items():
        content = (exported.folder / name).read_bytes()
        assert facts["bytes"] == len(content)
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_card_tells_genes_quality_costs_and_origin(
    exported: Exported, source: ExportSource
) -> None:
    card = _card(exported)
    assert card["arch_id"] == source.arch.id
    assert card["genes"] == dict(source.arch.genes)
    assert {c["name"] for c in card["costs"]} >= {"bitops", "model_size", "latency"}
    assert [q["prompt"] for q in card["quality"]] == ["box", "point"]
    for quality in card["quality"]:
        assert (quality["split"], quality["images"]) == ("nuclei", 1)
    box = card["quality"][0]
    assert abs(box["iou"] - box["supernet_iou"]) < 0.01
    assert card["supernet"] == "sam-vit-t, shipped with hwnas"
    assert set(card["fused"]) == {"MatMulIntegerToFloat"}
    text = (exported.folder / "card.md").read_text()
    for words in (
        source.arch.id,
        card["supernet_identity"],
        "are widened to",
        "equal to the super",
    ):
        assert words in text


def test_the_torch_form_is_the_supernets_subnet(exported: Exported, source: ExportSource) -> None:
    supernet = source.context.require("supernet", by="test")
    image = preprocess(embedded_image().image, supernet.resolution(source.arch))[None]
    expected = supernet.embed(image, source.arch)
    assert torch.equal(load_subnet(exported.folder).encoder(image), expected)


def test_the_runner_finds_a_nucleus(exported: Exported, tmp_path: Path) -> None:
    """In a process of its own, which imports nothing of hwnas."""
    labeled = embedded_image()
    prompts = prompts_of(labeled.instances)
    areas = [(labeled.instances == number).sum() for number in prompts.ids]
    row = int(np.argmax(areas))
    box = [str(number) for number in prompts.boxes[row]]
    out = tmp_path / "mask.png"
    done = subprocess.run(
        [sys.executable, "-I", str(exported.folder / "run.py"), str(PICTURE), "--box", *box,
         "--out", str(out), "--threads", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "predicted IoU" in done.stdout
    mask = np.asarray(Image.open(out)) > 0
    truth = labeled.instances == prompts.ids[row]
    assert (mask & truth).sum() / (mask | truth).sum() > 0.5


def test_the_runner_refuses_a_changed_weight(exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported.folder, folder)
    content = bytearray((folder / "encoder.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "encoder.onnx").write_bytes(content)
    done = subprocess.run(
        [sys.executable, str(folder / "run.py"), str(PICTURE), "--point", "3", "4"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "encoder.onnx is not the file that was exported" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_graph_is_not_exported(
    source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    right = onnx_form.encoder_model

    def wrong(*args: Any, **options: Any) -> Any:
        model = right(*args, **options)
        tensor = next(t for t in model.graph.initializer if t.name.endswith("/proj/weight/scale"))
        changed = numpy_helper.to_array(tensor) * np.float32(1.1)
        tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
        return model

    monkeypatch.setattr(onnx_form, "encoder_model", wrong)
    with pytest.raises(ExportError, match=r"parts from torch at blocks/\d+/lin1; nothing was"):
        export(source, tmp_path / "out", formats=["onnx"])
    assert list(tmp_path.iterdir()) == []


def test_torch_alone_needs_no_onnxruntime(
    source: ExportSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'hwnas\[onnx\]'"):
        export(source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    folder = export(source, tmp_path / "out", formats=["torch"]).folder
    names = {p.name for p in folder.iterdir()}
    assert "encoder.safetensors" in names
    assert not names & {"encoder.onnx", "run.py"}


def test_an_existing_folder_and_unknown_words(source: ExportSource, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="exists already"):
        export(source, tmp_path, formats=["torch"])
    with pytest.raises(ConfigError, match=r"--format tflite: .*--style gpu: .*--weights int5: "):
        export(source, tmp_path / "x", formats=["tflite"], style="gpu", storage="int5")
    assert list(tmp_path.iterdir()) == []


def test_check_names_each_layer(source: ExportSource) -> None:
    fates, sentences = check_export(source)
    assert any(fate.name.endswith("qkv") and fate.fate == "widened" for fate in fates)
    assert any("times as many" in sentence for sentence in sentences)
    with pytest.raises(ConfigError, match="--check: no device"):
        check_export(open_source("smallest", space="sam-vit-t"))


def test_a_design_needs_a_space_and_must_be_one() -> None:
    with pytest.raises(ConfigError, match="need --space"):
        open_source("smallest")
    with pytest.raises(ArchError, match=r"2 designs fit --pick \(none given\)"):
        open_source("random:2", space="sam-vit-t")
