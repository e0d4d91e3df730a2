"""A module that was cross-compiled runs with TVM's runtime for that processor, in an emulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hwnas.device import find
from hwnas.export.tvm.module import export_tvm
from hwnas.export.tvm.runner import ModuleError, TvmModule, _parameters
from hwnas.measure.builder import Builder
from hwnas.workload.sam_plan import EncoderPlan
from tests.export.tvm.tiny_subnets import EIGHT, MIXED, tiny

pytest.importorskip("tvm")
pytestmark = [pytest.mark.tvm, pytest.mark.slow]

_CODES = {"i": 0, "u": 1, "f": 2}  # of DLPack, by numpy's kind
_LIBRARIES = ("libtvm_runtime.so", "libtvm_ffi.so")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs `run_module.c` for aarch64, or a skipped test."""
    compiler, emulator = "aarch64-linux-gnu-gcc", "qemu-aarch64"
    if not shutil.which(compiler) or not shutil.which(emulator):
        pytest.skip(f"needs {compiler} and {emulator}: install a cross compiler and qemu-user")
    runtime = Path(os.environ.get("TVM_AARCH64_RUNTIME", ""))
    if not all((runtime / name).is_file() for name in _LIBRARIES):
        pytest.skip(
            f"needs {' and '.join(_LIBRARIES)} of the aarch64 wheels of apache-tvm and "
            "apache-tvm-ffi (pip download --platform manylinux_2_28_aarch64, then unzip) in the "
            "folder that TVM_AARCH64_RUNTIME names"
        )
    program = tmp_path_factory.mktemp("driver") / "run_module"
    source = Path(__file__).with_name("run_module.c")
    subprocess.run(
        [compiler, "-O1", "-w", str(source), "-o", str(program), f"-L{runtime}",
         "-Wl,--no-as-needed", "-ltvm_runtime", "-ltvm_ffi", "-Wl,--allow-shlib-undefined"],
        check=True,
    )  # fmt: skip
    return [
        emulator, "-L", "/usr/aarch64-linux-gnu", "-E", f"LD_LIBRARY_PATH={runtime}",
        "-E", "TVM_NUM_THREADS=1", "-cpu", "max", str(program),
    ]  # fmt: skip


@pytest.mark.parametrize("plan", [EIGHT, MIXED], ids=["eight bits", "mixed"])
@pytest.mark.parametrize("device", ["raspberry-pi-4", "raspberry-pi-5"])
def test_arm_computes_what_torch_computes(
    device: str, plan: EncoderPlan, driver: list[str], tmp_path: Path
) -> None:
    subnet, image = tiny(plan)
    module = export_tvm(tmp_path / "tvm", subnet, Builder(find(device), tmp_path / "cache"))
    with pytest.raises(ModuleError, match="was compiled for aarch64"):
        TvmModule(module.folder)
    description = json.loads((module.folder / "module.json").read_text(encoding="utf-8"))
    encoder = description["programs"]["encoder"]
    tensors = _parameters(module.folder / description["parameters"])
    arguments = [image.permute(1, 2, 0).numpy().ravel()]
    arguments += [tensors[name] for name in encoder["constants"]]
    lines = []
    for index, array in enumerate(arguments):
        array.tofile(tmp_path / f"{index}.bin")
        bits = 8 * array.dtype.itemsize
        lines.append(f"{tmp_path}/{index}.bin {array.size} {_CODES[array.dtype.kind]} {bits}\n")
    (tmp_path / "arguments").write_text("".join(lines), encoding="utf-8")
    library = str(module.folder / encoder["library"])
    command = [*driver, library, str(tmp_path / "arguments"), str(tmp_path)]
    subprocess.run(command, check=True, timeout=120)
    found = np.fromfile(tmp_path / "0.out", np.float32)
    expected = subnet(image[None])[0].permute(1, 2, 0).numpy().ravel()
    assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)
