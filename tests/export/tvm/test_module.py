"""The folder of a module: it runs alone, and says what is wrong with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.device import find
from hwnas.errors import DeviceError, Interrupted, RunError
from hwnas.export.tvm import module as module_file
from hwnas.export.tvm import runner
from hwnas.export.tvm.encoder import EMBEDDING, IMAGE
from hwnas.export.tvm.interpreter import interpret
from hwnas.export.tvm.module import TvmExport, export_tvm
from hwnas.export.tvm.runner import ModuleError, TvmModule
from hwnas.measure.builder import Builder, linker_of, target_of
from hwnas.supernet.subnet import Subnet
from tests.export.tvm.tiny_subnets import EIGHT, tiny

pytest.importorskip("tvm")
pytestmark = pytest.mark.tvm

_ALONE = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from runner import TvmModule
np.save(sys.argv[3], TvmModule(sys.argv[1]).encode(np.load(sys.argv[2])))
assert "tvm" not in sys.modules and "hwnas" not in sys.modules
assert "libtvm_compiler" not in open("/proc/self/maps").read()
"""


@pytest.fixture(scope="module")
def subject() -> tuple[Subnet, torch.Tensor]:
    return tiny(EIGHT)


@pytest.fixture(scope="module")
def exported(
    subject: tuple[Subnet, torch.Tensor], builder: Builder, tmp_path_factory: pytest.TempPathFactory
) -> TvmExport:
    return export_tvm(tmp_path_factory.mktemp("exported") / "tvm", subject[0], builder)


@pytest.fixture
def folder(exported: TvmExport, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(exported.folder, tmp_path / "copy"))


def test_the_module_computes_what_its_kernels_compute(
    exported: TvmExport, subject: tuple[Subnet, torch.Tensor]
) -> None:
    subnet, image = subject
    found = TvmModule(exported.folder).encode(image.numpy())
    inputs = {IMAGE: image.permute(1, 2, 0).numpy()}
    called = interpret(exported.programs["encoder"], inputs)[EMBEDDING]
    assert np.array_equal(found.ravel(), called)
    expected = subnet(image[None])[0].permute(1, 2, 0).numpy()
    assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)
    again = TvmModule(exported.folder, threads=1).encode(image.numpy())
    assert np.array_equal(found, again)


def test_it_runs_without_this_package_and_without_the_compiler(
    exported: TvmExport, subject: tuple[Subnet, torch.Tensor], tmp_path: Path
) -> None:
    image = subject[1].numpy()
    np.save(tmp_path / "image.npy", image)
    files = [str(tmp_path / name) for name in ("image.npy", "embedding.npy")]
    subprocess.run(
        [sys.executable, "-c", _ALONE, str(exported.folder), *files], check=True, cwd=tmp_path
    )
    assert np.array_equal(np.load(files[1]), TvmModule(exported.folder).encode(image))


def test_the_description_says_what_runs(exported: TvmExport) -> None:
    description = json.loads((exported.folder / "module.json").read_text(encoding="utf-8"))
    calls = description["programs"]["encoder"]["calls"]
    assert calls[0] == ["patch_embed", "conv-3x48x16x16x1x4-int8-w8a8"]
    assert len(calls) == len(exported.programs["encoder"].calls)
    files = [path for path in exported.folder.iterdir() if path.is_file()]  # Python may have cached
    sizes = {file.name: file.stat().st_size for file in files}
    assert sizes == exported.file_bytes
    # 8-bit codes, so a quarter of the floats, and tables in float32 beside them
    weights = sum(v.nbytes for v in exported.programs["encoder"].values.values())
    assert weights <= sizes["parameters.safetensors"] < 1.2 * weights


@pytest.mark.parametrize("name", ["parameters.safetensors", "encoder.so"])
def test_a_tampered_file_is_refused(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ModuleError, match=rf"{name} is not the file that was exported: its sha256"):
        TvmModule(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "encoder.so").unlink()
    with pytest.raises(ModuleError, match=r"encoder.so is missing; copy the whole folder"):
        TvmModule(folder)
    with pytest.raises(ModuleError, match="give the folder of an exported module"):
        TvmModule(folder / "nothing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "vax", "target": "vax-dec"}, r"compiled for vax \(vax-dec\), this mach"),
        ({"instructions": ["avx9000"]}, "needs the instructions avx9000, which this processor"),
    ],
)
def test_a_module_of_another_machine_is_refused(folder: Path, change, message: str) -> None:
    description = json.loads((folder / "module.json").read_text(encoding="utf-8"))
    description["machine"] |= change
    (folder / "module.json").write_text(json.dumps(description), encoding="utf-8")
    with pytest.raises(ModuleError, match=message):
        TvmModule(folder)


def test_what_it_cannot_do_is_refused(exported: TvmExport) -> None:
    module = TvmModule(exported.folder)
    with pytest.raises(ModuleError, match=r"the image is \(3, 8, 8\), the module takes \(3, 64"):
        module.encode(np.zeros((3, 8, 8), np.float32))
    with pytest.raises(ModuleError, match="takes no prompts, not a box"):
        module.segment(np.zeros((4, 4, 32), np.float32), box=(0, 0, 4, 4))
    with pytest.raises(ModuleError, match="either a box or a point"):
        module.segment(np.zeros((4, 4, 32), np.float32))


def test_a_folder_that_exists_is_refused(
    exported: TvmExport, subject: tuple[Subnet, torch.Tensor], builder: Builder
) -> None:
    with pytest.raises(RunError, match="exists already; name another folder"):
        export_tvm(exported.folder, subject[0], builder)


def test_an_interrupted_export_leaves_nothing(
    subject: tuple[Subnet, torch.Tensor], builder: Builder, tmp_path: Path, monkeypatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module_file, "export", interrupted)
    with pytest.raises(Interrupted, match="was not written"):
        export_tvm(tmp_path / "tvm", subject[0], builder)
    assert not list(tmp_path.iterdir())


def test_devices_that_cannot_be_linked_for_are_refused(
    subject: tuple[Subnet, torch.Tensor], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DeviceError, match="install aarch64-linux-gnu-gcc"):
        export_tvm(tmp_path / "tvm", subject[0], Builder(find("raspberry-pi-5")))
    with pytest.raises(DeviceError, match="is a graphics processor"):
        export_tvm(tmp_path / "tvm", subject[0], Builder(find("jetson-orin-nano-8gb")))
    assert not list(tmp_path.iterdir())


def test_the_bytecode_is_packed_for_the_device_that_it_is_linked_for(monkeypatch) -> None:
    device = find("raspberry-pi-5")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    linker = linker_of(target_of(device), here=False)
    assert linker.get_target_triple() == "aarch64-linux-gnu"


def test_denormals_are_flushed_while_a_module_runs_and_kept_afterwards() -> None:
    if runner._MODES is None:
        pytest.skip("only glibc on x86-64 says how to change the mode")

    def smallest() -> float:
        return float(np.full(16, 1e-38, np.float32).dot(np.full(16, 0.01, np.float32)))

    assert smallest() > 0
    with runner._flushed_denormals():
        assert smallest() == 0
    assert smallest() > 0
    with pytest.raises(ZeroDivisionError), runner._flushed_denormals():
        _ = 1 / 0
    assert smallest() > 0


def test_a_module_can_be_read_by_whoever_can_read_its_folder(exported: TvmExport) -> None:
    modes = {file.name: file.stat().st_mode & 0o044 for file in exported.folder.iterdir()}
    assert set(modes.values()) == {modes["module.json"]}, modes
