"""`hwnas calibrate --transfer`: other columns of a CSV, calibrated devices, and refusals."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from hwnas.cli import main
from hwnas.cost import CostContext, build
from hwnas.device import find
from hwnas.errors import ConfigError, DataError
from hwnas.measure.measurement import Measurement
from hwnas.space import Archs, SearchSpace, load_space
from hwnas.workflows.calibrate import calibrate
from hwnas.workflows.calibrate.from_csv import calibrate_from_csv
from hwnas.workflows.calibrate.transfer import split_names

SPACE_FILE = """
from hwnas.space import SearchSpace, choice, ordinal, repeat

def net():
    return SearchSpace("net", [
        ordinal("size", (1, 2, 3), role="resolution"),
        repeat("b", 6, [choice("op", ("conv", "pool", "wide", "skip"))]),
    ])
"""
PRICES = {"raspberry-pi-4": (1.0, 0.2), "raspberry-pi-5": (0.3, 1.0), "npu": (0.7, 0.5)}


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchSpace:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(SPACE_FILE)
    return load_space("./net.py:net")


@pytest.fixture
def archs(space: SearchSpace) -> Archs:
    return space.sample(np.random.default_rng(0), 150).unique()


def times(archs: Archs, name: str) -> np.ndarray:
    """Mixtures of two tables; a device that is not in `PRICES` has one of its own."""
    tables = np.random.default_rng(7).uniform(0.2, 8.0, (2, 6, 4))
    table = np.tensordot(PRICES[name], tables, 1) if name in PRICES else None
    if table is None:
        table = np.random.default_rng(8).uniform(0.2, 8.0, (6, 4))
    ops = archs.matrix[:, 1:]
    noise = np.exp(np.random.default_rng(1).normal(0, 0.005, len(archs)))
    out: np.ndarray = (1.0 + table[np.arange(6), ops].sum(axis=1)) * noise
    return out


def write(path: str, archs: Archs, columns: Mapping[str, np.ndarray]) -> Path:
    genes = [gene.name for gene in archs.space.genes]
    with Path(path).open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*genes, *columns])
        for i, arch in enumerate(archs):
            cells = ["" if np.isnan(c[i]) else f"{c[i]:.6g}" for c in columns.values()]
            rows.writerow([*(arch[g] for g in genes), *cells])
    return Path(path)


def few(values: np.ndarray, n: int) -> np.ndarray:
    return np.where(np.arange(len(values)) < n, values, np.nan)


def test_other_columns_of_a_csv(space, archs, monkeypatch, capsys) -> None:
    columns = {f"time_ms.{name}": times(archs, name) for name in PRICES}
    columns["time_ms.npu"] = few(columns["time_ms.npu"], 20)
    columns["time_ms.odd"] = few(times(archs, "odd"), 20)
    write("t.csv", archs, columns)
    names = ("raspberry-pi-4", "raspberry-pi-5")
    options = ["--space", "./net.py:net", "--transfer", ",".join(names), "--json"]
    monkeypatch.setattr(sys, "argv", ["hwnas", "calibrate", "--from-csv", "t.csv", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = json.loads(capsys.readouterr().out)
    assert list(printed["reports"]) == ["npu"]
    report = printed["reports"]["npu"]
    assert (report["fitted_on"], report["held_out"]) == (20, 0)
    assert report["accuracy"]["mape"] < 2
    assert report["baselines"]["additive table"]["mape"] > 2 * report["accuracy"]["mape"]
    # a device of another kind is refused, and the others go on
    assert "expected a tau of at least 0.8" in printed["refused"]["odd"]
    model = build("latency", CostContext(space), predictor=printed["written"][0])
    true = times(archs, "npu")[20:]
    assert np.abs(model.evaluate(archs[20:]) / true - 1).mean() < 0.02


def test_calibrated_devices_and_a_store(space, archs) -> None:
    for name in ("raspberry-pi-4", "raspberry-pi-5"):
        file = write("t.csv", archs, {"time_ms": times(archs, name)})
        calibrate_from_csv(file, space, device=name)
    device = find("x86-avx512-vnni")
    rows = [
        Measurement(
            "subnet", arch.id, device.fingerprint, "tvm 1", "ok", float(ms),
            details={"space": "net", "genes": dict(arch.genes), "picked": "cover"},
        )
        for arch, ms in zip(archs[:24], times(archs, "npu"), strict=False)
    ]  # fmt: skip
    sources = ("raspberry-pi-4", "raspberry-pi-5")
    found = calibrate(device, space, store=rows, transfer_from=sources)
    assert found.calibrated.report.accuracy.mape < 2
    # nothing but the written files is needed, whatever becomes of the sources
    for name in sources:
        Path("devices", f"{name}.yaml").unlink()
    batch = build("latency", CostContext(space, find(device.id))).estimate(archs)
    assert batch.fidelity == "predicted"
    assert np.abs(batch.value / times(archs, "npu") - 1)[24:].mean() < 0.02
    odd = [
        Measurement("subnet", r.key, r.fingerprint, r.runner, "ok", float(ms), details=r.details)
        for r, ms in zip(rows, times(archs, "odd"), strict=False)
    ]
    with pytest.raises(DataError, match=r"learn from devices more like it"):
        calibrate(device, space, store=odd, transfer_from=(str(found.folder),))


def test_sources_that_cannot_be_learned_from_are_named(space, archs) -> None:
    columns = {"time_ms.a": times(archs, "npu"), "time_ms.b": np.full(len(archs), 7.0)}
    file = write("t.csv", archs, columns)
    with pytest.raises(ConfigError, match=r"jetson.*has no predictor of net"):
        calibrate_from_csv(file, space, device="a", transfer_from=("jetson-orin-nano-8gb",))
    with pytest.raises(DataError, match="nothing can be learned from b"):
        calibrate_from_csv(file, space, device="a", transfer_from=("b",))
    with pytest.raises(ConfigError, match=r"no series of t\.csv is left"):
        calibrate_from_csv(file, space, device="a", transfer_from=("a",))
    with pytest.raises(ConfigError, match="expected devices"):
        split_names(" , ")
    assert split_names("a, b,a") == ("a", "b")
