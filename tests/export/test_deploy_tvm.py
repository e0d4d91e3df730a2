"""A deploy folder with a TVM module: verified here, named where it cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from hwnas.errors import ConfigError, DeviceError, ExportError
from hwnas.export.tvm import form
from hwnas.workflows.export import export
from hwnas.workflows.export_source import open_source


def test_a_module_needs_a_device_and_tvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="pass --device NAME"):
        export(open_source("smallest", space="sam-vit-t"), tmp_path / "out", formats=["tvm"])
    monkeypatch.setattr(form, "find_spec", lambda name: None)
    source = open_source("smallest", space="sam-vit-t", device="host")
    with pytest.raises(ConfigError, match=r"pip install 'hwnas\[tvm\]'"):
        export(source, tmp_path / "out", formats=["tvm"])
    assert not (tmp_path / "out").exists()


@pytest.mark.tvm
@pytest.mark.slow
def test_a_module_is_verified_and_on_the_card(tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    source = open_source("smallest", space="sam-vit-t", device="host")
    exported = export(source, tmp_path / "out", formats=["tvm"])
    card = json.loads((exported.folder / "card.json").read_text())
    assert {"tvm/encoder.so", "tvm/box.so", "tvm/point.so", "tvm/module.json"} <= set(card["files"])
    assert [q["prompt"] for q in card["quality"]] == ["box", "point"]
    for quality in card["quality"]:
        assert quality["runtime"].startswith("tvm ")
        assert abs(quality["iou"] - quality["supernet_iou"]) < 0.01
    assert not any(name.endswith(".onnx") for name in card["files"])
    # a damaged module is told, not run
    (exported.folder / "tvm" / "parameters.safetensors").write_bytes(b"no")
    assert source.context.device is not None
    with pytest.raises(ExportError, match="does not run on this machine"):
        form.open_tvm(exported.folder, source.context.device)


@pytest.mark.tvm
@pytest.mark.slow
def test_a_module_for_another_machine_is_not_run(tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    source = open_source("smallest", space="sam-vit-t", device="raspberry-pi-5")
    if shutil.which("aarch64-linux-gnu-gcc") is None:
        with pytest.raises(DeviceError, match="aarch64"):
            export(source, tmp_path / "out", formats=["tvm"])
        assert not (tmp_path / "out").exists()
        return
    exported = export(source, tmp_path / "out", formats=["tvm"])
    assert any("not this machine; not run" in check for check in exported.card.checks)
    assert {q.runtime for q in exported.card.quality} == {"torch"}
