"""`hwnas calibrate` from a store: what is held out, the device file, kills, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwnas.cost import CostContext, build
from hwnas.cost.lowering import lower
from hwnas.device import find
from hwnas.errors import CostError, DataError
from hwnas.measure.lowering import steps_of
from hwnas.measure.measurement import Measurement
from hwnas.measure.store import MeasurementStore
from hwnas.space import load_space
from hwnas.workflows.calibrate import calibrate, labels_of_store

DEVICE, SPACE = "x86-avx512-vnni", "mobile-cnn"


def rows_of(n: int = 48, *, prompts: int = 1) -> list[Measurement]:
    """Made-up times: kernels, subnets as their sum and a tenth, three of them measured twice."""
    device, space = find(DEVICE), load_space(SPACE)
    rng = np.random.default_rng(0)
    kernels: dict[str, float] = {}
    subnets = []
    for i, arch in enumerate(space.sample(rng, n).unique()):
        total = 0.0
        for step in steps_of(lower(space, arch), device):
            size = float(np.prod([max(1, s) for s in step.kernel.shape[:3]]))
            kernels[step.kernel.key] = 1e-3 + 1e-7 * size
            total += kernels[step.kernel.key]
        details = {
            "space": SPACE, "genes": dict(arch.genes), "prompts": prompts,
            "picked": "uncertain" if i % 4 == 0 else "random",
        }  # fmt: skip
        key = f"{arch.id}-{prompts}prompts"
        for again in range(2 if i < 3 else 1):
            ms = 1.1 * total * float(np.exp(rng.normal(0, 0.01)))
            more = {**details, "again": True} if again else details
            subnets.append(
                Measurement("subnet", key, device.fingerprint, "tvm 1", "ok", ms, details=more)
            )
    return [
        *(
            Measurement("kernel", key, device.fingerprint, "tvm 1", "ok", ms)
            for key, ms in kernels.items()
        ),
        *subnets,
    ]


@pytest.fixture(scope="module")
def rows() -> list[Measurement]:
    return rows_of()


def test_only_random_ones_can_be_held_out_and_twice_measured_ones_give_the_noise(rows) -> None:
    labeled, prompts = labels_of_store(rows, find(DEVICE), load_space(SPACE))
    assert prompts == 1
    assert len(labeled.ms) == len(set(labeled.archs.ids))
    assert labeled.held.sum() == sum(
        r.details.get("picked") == "random" and not r.details.get("again") for r in rows
    )
    assert labeled.noise is not None
    assert labeled.noise.n == 3
    assert labeled.noise_source == "3 subnets measured twice"


def test_a_device_file_is_written_and_used(rows, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = calibrate(DEVICE, SPACE, store=rows)
    report = found.calibrated.report
    assert report.accuracy.mape < 5
    assert {"roofline", "MACs alone", "sum of kernels"} <= set(report.baselines)
    profile = find(DEVICE)
    assert Path(profile.origin).parent == tmp_path / "devices"
    context = CostContext(load_space(SPACE), profile)
    batch = build("latency", context).estimate(context.space.sample(np.random.default_rng(5), 9))
    assert batch.fidelity == "predicted"
    # another space of the device is still an estimate
    other = CostContext(load_space("sam-vit-t"), profile)
    assert build("latency", other).fidelity == "estimated"
    # a profile that is now something else does not keep its calibration
    changed = replace(profile, spec=profile.spec.model_copy(update={"processor": "another"}))
    with pytest.raises(CostError, match="calibrate again"):
        build("latency", CostContext(context.space, changed))


@pytest.mark.slow
def test_a_killed_calibration_leaves_the_old_one_and_runs_again(tmp_path: Path) -> None:
    store = tmp_path / "m.sqlite"
    with MeasurementStore(store) as file:
        file.add(*rows_of(24))
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import hwnas.workflows.calibrate as c\n"
        "if sys.argv[1] == 'kill':\n"
        "    c.write_device = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"c.calibrate({DEVICE!r}, {SPACE!r}, store=Path({str(store)!r}))\n"
    )

    def run(folder: str, *how: str) -> int:
        (tmp_path / folder).mkdir(exist_ok=True)
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", code, *how]
        return subprocess.run(command, cwd=tmp_path / folder, env=env, check=False).returncode

    assert run("killed", "kill") == -9
    assert not (tmp_path / "killed" / "devices" / f"{DEVICE}.yaml").exists()
    assert run("killed", "whole") == 0
    assert run("plain", "whole") == 0
    for path in sorted((tmp_path / "plain").rglob("*")):
        twin = tmp_path / "killed" / path.relative_to(tmp_path / "plain")
        assert path.is_dir() or twin.read_bytes() == path.read_bytes(), path


def test_what_is_missing_is_said(rows, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no measured subnets of sam-vit-t"):
        calibrate(DEVICE, "sam-vit-t", store=rows, out=tmp_path)
    with pytest.raises(DataError, match="timed with 1 prompts"):
        calibrate(DEVICE, SPACE, store=rows, prompts=4, out=tmp_path)
    with pytest.raises(DataError, match="no measurements there"):
        calibrate(DEVICE, SPACE, store=tmp_path / "none.sqlite", out=tmp_path)
    picked = [
        replace(r, details={**r.details, "picked": "uncertain"}) if r.subject == "subnet" else r
        for r in rows
    ]
    with pytest.raises(DataError, match="0 architectures that no model picked"):
        calibrate(DEVICE, SPACE, store=picked, out=tmp_path)
    assert json.dumps([str(p) for p in tmp_path.iterdir()]) == "[]"
