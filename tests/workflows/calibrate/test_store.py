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
import yaml

from hwnas.cost import CostContext, build, estimate
from hwnas.cost.lowering import lower
from hwnas.device import find
from hwnas.errors import ConfigError, CostError, DataError
from hwnas.measure.lowering import steps_of
from hwnas.measure.measurement import Measurement
from hwnas.measure.store import MeasurementStore
from hwnas.space import load_space
from hwnas.workflows.calibrate.fit import fit_and_judge
from hwnas.workflows.calibrate.store import HoldOut, calibrate, labels_of_store, undisturbed

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


def test_a_subnet_measured_twice_counts_once_with_the_statistic_of_the_protocol(rows) -> None:
    labeled, _ = labels_of_store(rows, find(DEVICE), load_space(SPACE))
    subnets = [r for r in rows if r.subject == "subnet"]
    twice = [r.value_ms for r in subnets if r.key == subnets[0].key]
    assert len(twice) == 2
    assert find(DEVICE).protocol.statistic == "minimum"
    assert labeled.ms[0] == min(twice)  # type: ignore[type-var]


def test_a_visit_to_what_was_disturbed_counts_as_another_time_of_the_same_subnet(rows) -> None:
    plain, _ = labels_of_store(rows, find(DEVICE), load_space(SPACE))
    first = next(r for r in rows if r.subject == "subnet" and r.key.startswith(plain.archs.ids[5]))
    visit = replace(first, value_ms=0.9 * first.value_ms, details={**first.details, "visit": 2})
    labeled, _ = labels_of_store([*rows, visit], find(DEVICE), load_space(SPACE))
    assert labeled.archs.ids == plain.archs.ids
    changed = labeled.ms / plain.ms
    assert changed[5] == pytest.approx(
        0.9 if find(DEVICE).protocol.statistic == "minimum" else 0.95
    )
    assert np.delete(changed, 5) == pytest.approx(1.0)
    assert labeled.noise is not None
    assert labeled.noise.n == 3


def test_a_stray_time_of_our_own_is_borne_where_one_of_a_table_is_refused(rows) -> None:
    device, space = find(DEVICE), load_space(SPACE)
    labeled, _ = labels_of_store(rows, device, space)
    ms = labeled.ms.copy()
    ms[7] *= 1000
    stray = replace(labeled, ms=ms)
    context = CostContext(space=space, device=device)
    predictor = fit_and_judge(context, stray, device=DEVICE).predictor
    off = np.delete(np.abs(predictor.estimate(labeled.archs).value / labeled.ms - 1), 7)
    assert np.median(off) < 0.1
    with pytest.raises(DataError, match="expected one unit in all rows"):
        fit_and_judge(context, replace(stray, in_ms=False), device=DEVICE)


def test_the_user_says_what_is_held_out(rows, tmp_path: Path) -> None:
    report = calibrate(
        DEVICE, SPACE, store=rows, hold_out=HoldOut(count=12), out=tmp_path / "a"
    ).calibrated.report
    assert report.held_out == 12
    late = [
        replace(r, measured_at="2026-11-22T08:50:00+00:00" if i % 3 == 0 else "2026-11-22T08:00:00")
        for i, r in enumerate(rows)
    ]
    since = HoldOut(since="2026-11-22T08:40")
    report = calibrate(
        DEVICE, SPACE, store=late, hold_out=since, out=tmp_path / "b"
    ).calibrated.report
    first = [r for r in late if r.subject == "subnet" and not r.details.get("again")]
    fresh = [r for r in first if "08:50" in r.measured_at and r.details["picked"] == "random"]
    assert report.held_out == len(fresh) > 5
    for wrong, message in (
        (HoldOut(count=46), "no more than the"),
        (HoldOut(since="2027-01-01"), "0 random subnets"),
        (HoldOut(since="yesterday"), "expected a time such as"),
    ):
        with pytest.raises(DataError, match=message):
            calibrate(DEVICE, SPACE, store=late, hold_out=wrong, out=tmp_path / "c")
    with pytest.raises(ConfigError, match="exclude each other"):
        HoldOut(5, "2026-01-01")


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


def test_a_folder_keeps_what_was_calibrated_into_it_before(rows, tmp_path: Path) -> None:
    calibrate(DEVICE, SPACE, store=rows, out=tmp_path)
    path = tmp_path / f"{DEVICE}.yaml"
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    records = written["calibration"]
    other = {**records[0], "space": "of-another-space"}
    written["calibration"] = [other, {**records[0], "mape": 99.0}]
    path.write_text(yaml.safe_dump(written), encoding="utf-8")
    calibrate(DEVICE, SPACE, store=rows, out=tmp_path)  # from the profile that ships
    assert yaml.safe_load(path.read_text(encoding="utf-8"))["calibration"] == [other, *records]


def test_energy_is_power_times_the_calibrated_latency(rows, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain = find(DEVICE)
    space = load_space(SPACE)
    archs = space.sample(np.random.default_rng(5), 9)
    before = build("energy", CostContext(space, plain)).evaluate(archs)
    calibrate(DEVICE, SPACE, store=rows)
    context = CostContext(space, find(DEVICE))
    energy, latency = (estimate(build(name, context), archs) for name in ("energy", "latency"))
    assert plain.spec.power_w is not None
    assert energy.value == pytest.approx(latency.value * plain.spec.power_w.max.value)
    assert not np.allclose(energy.value, before)
    assert (energy.fidelity, energy.level) == ("estimated", None)
    assert energy.lo is not None
    assert latency.lo is not None
    assert (energy.lo < latency.lo * plain.spec.power_w.max.value).all()
    parts = build("energy", context).breakdown(archs[0])
    assert sum(parts.values()) == pytest.approx(energy.value[0])


def test_disturbed_times_are_left_out_and_counted(rows) -> None:
    """Slow beside a slow reference, or sessions that disagree; the second time stands instead."""
    subnets = [r for r in rows if r.subject == "subnet"]
    spoiled = [
        replace(r, reference_ms=1.3 if i == 8 else 1.0, status="noisy" if i == 0 else "ok")
        for i, r in enumerate(subnets)
    ]
    clean, left_out = undisturbed(spoiled)
    assert left_out == 2
    assert spoiled[8] not in clean
    labeled, _ = labels_of_store(spoiled, find(DEVICE), load_space(SPACE))
    # of the first two rows, which are one subnet, the second is left
    assert len(labeled.ms) == len({r.key for r in subnets}) - 1
    assert labeled.noise is not None
    assert labeled.noise.n == 2
    assert any("2 times of subnets were disturbed" in remark for remark in labeled.remarks)
    noisy = [replace(r, status="noisy") for r in subnets]
    assert undisturbed(noisy) == (noisy, 0)


@pytest.mark.slow
def test_a_killed_calibration_leaves_the_old_one_and_runs_again(tmp_path: Path) -> None:
    store = tmp_path / "m.sqlite"
    with MeasurementStore(store) as file:
        file.add(*rows_of(24))
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import hwnas.workflows.calibrate.store as c\n"
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
