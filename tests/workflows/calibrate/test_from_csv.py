"""`hwnas calibrate --from-csv`: any space, any naming of columns, and what is refused by name."""

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
from hwnas.errors import DataError
from hwnas.space import Archs, SearchSpace, choice, ordinal, repeat
from hwnas.workflows.calibrate.from_csv import calibrate_from_csv
from hwnas.workflows.calibrate.times_table import read_times

SPACE_FILE = """
from hwnas.space import SearchSpace, choice, ordinal, repeat

def net():
    return SearchSpace("net", [
        ordinal("size", (1, 2, 4), role="resolution"),
        choice("act", ("relu", "swish")),
        ordinal("depth", (1, 2, 3), role="depth"),
        repeat("b", 3, [ordinal("k", (1, 3, 5))], depth="depth"),
    ])
"""


@pytest.fixture(scope="module")
def space() -> SearchSpace:
    return SearchSpace(
        "net",
        [
            ordinal("size", (1, 2, 4), role="resolution"),
            choice("act", ("relu", "swish")),
            ordinal("depth", (1, 2, 3), role="depth"),
            repeat("b", 3, [ordinal("k", (1, 3, 5))], depth="depth"),
        ],
    )


@pytest.fixture(scope="module")
def archs(space: SearchSpace) -> Archs:
    return space.sample(np.random.default_rng(0), 400).unique()


@pytest.fixture(scope="module")
def true(archs: Archs) -> np.ndarray:
    return np.array(
        [
            0.5 + a["size"] * sum(a[f"b.{i}.k"] * (1 + i) for i in range(a["depth"]))
            * (1.2 if a["act"] == "swish" else 1.0)
            for a in archs
        ]
    )  # fmt: skip


def repeated(true: np.ndarray, seed: int = 0, sd: float = 0.02, r: int = 10) -> np.ndarray:
    return true[:, None] * np.exp(np.random.default_rng(seed).normal(0, sd, (len(true), r)))


def write(path: Path, archs: Archs, columns: Mapping[str, np.ndarray]) -> Path:
    genes = [gene.name for gene in archs.space.genes]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*genes, *columns])
        for i, arch in enumerate(archs):
            cells = ["" if arch.get(g) is None else arch[g] for g in genes]
            writer.writerow([*cells, *(f"{c[i]:.6g}" for c in columns.values())])
    return path


def series(name: str, repeats: np.ndarray) -> dict[str, np.ndarray]:
    return {f"time_ms.{name}.{i + 1}": column for i, column in enumerate(repeats.T)}


def test_devices_are_calibrated_and_the_poisoned_one_is_refused(
    tmp_path: Path, space: SearchSpace, archs: Archs, true: np.ndarray
) -> None:
    shuffled = repeated(true)[np.random.default_rng(1).permutation(len(true))]
    columns = series("phone", repeated(true)) | series("npu", shuffled)
    file = write(tmp_path / "times.csv", archs, columns)
    found = calibrate_from_csv(file, space, out=tmp_path / "devices")
    assert [r.device for r in found.refused] == ["npu"]
    assert "neither size nor genes explain them" in found.refused[0].reason
    report = found.calibrated["phone"].report
    assert report.noise is not None
    assert report.noise.mape < 1.2
    assert report.accuracy.mape < 2
    assert report.accuracy.kendall_tau is not None
    assert report.accuracy.kendall_tau > 0.95
    assert set(report.baselines) == {"median", "additive table", "XGBoost on genes"}
    assert report.accuracy.mape < min(a.mape for a in report.baselines.values())
    assert report.held_out == round(0.2 * len(archs))
    assert json.loads((found.folders["phone"] / "report.json").read_text()) == report.to_dict()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: 1000.0 / t, "is it a rate"),
        (lambda t: np.where(np.arange(len(t)) == 3, 1000.0 * t, t), "expected one unit"),
        (lambda t: np.where(np.arange(len(t)) == 3, -t, t), "not positive (line 5"),
        (lambda t: np.full_like(t, 7.0), "have the time 7"),
    ],
)
def test_single_times_that_make_no_sense(
    spoil, words: str, tmp_path: Path, space: SearchSpace, archs: Archs, true: np.ndarray
) -> None:
    file = write(tmp_path / "t.csv", archs, {"time_ms": spoil(true)})
    with pytest.raises(DataError) as caught:
        calibrate_from_csv(file, space, out=tmp_path)
    assert words in str(caught.value)
    assert "no series of times can be learned from" in str(caught.value)
    assert not list(tmp_path.glob("*.predictor"))


def test_columns_may_be_called_anything(
    tmp_path: Path, space: SearchSpace, archs: Archs, true: np.ndarray
) -> None:
    few = archs[:20]
    columns = {"lat_pi4_us_2": 2e3 * true[:20], "lat_pi4_us_1": 1e3 * true[:20], "note": true[:20]}
    file = write(tmp_path / "t.csv", few, columns)
    table = read_times(file, space, pattern="lat_{device}_us_{repeat}")
    (found,) = table.series
    assert (found.device, found.columns) == ("pi4", ("lat_pi4_us_1", "lat_pi4_us_2"))
    assert found.ms[:, 0] == pytest.approx(true[:20], rel=1e-5)
    assert table.ignored == ("note",)
    with pytest.raises(DataError, match="no column of times"):
        read_times(file, space)


def test_architectures_may_be_json(tmp_path: Path, space: SearchSpace, archs: Archs) -> None:
    file = tmp_path / "t.csv"
    with file.open("w", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["arch", "latency_s"])
        rows.writerow([archs[0].to_json(), "0.001"])
        rows.writerow([json.dumps(dict(archs[1].genes)), ""])
    table = read_times(file, space)
    assert list(table.archs) == [archs[0], archs[1]]
    assert table.series[0].ms[0, 0] == 1.0
    assert np.isnan(table.series[0].ms[1, 0])


def test_all_problems_of_a_file_at_once(tmp_path: Path, space: SearchSpace) -> None:
    file = tmp_path / "t.csv"
    file.write_text("size,act,depth,b.0.k,time_ms\n3,relu,1,1,2\n1,gelu,1,1,2\n1,relu,1,1,2\n")
    with pytest.raises(DataError) as caught:
        read_times(file, space)
    text = str(caught.value)
    assert "2 of 3 rows are no architectures of net" in text
    assert "line 2" in text
    assert "line 3" in text


def test_a_known_device_gets_a_file_that_names_the_predictor(
    tmp_path: Path, space: SearchSpace, archs: Archs, true: np.ndarray,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(SPACE_FILE)
    write(tmp_path / "t.csv", archs, {"time_ms": true})
    options = ["--from-csv", "t.csv", "--space", "./net.py:net", "--device", "raspberry-pi-5"]
    monkeypatch.setattr(sys, "argv", ["hwnas", "calibrate", *options, "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = json.loads(capsys.readouterr().out)
    assert "devices/raspberry-pi-5.yaml" in printed["written"]
    record = find("raspberry-pi-5").calibration("net")
    assert record is not None
    assert record.noise_floor_pct is None
    assert record.samples == len(archs)
    context = CostContext(space, find("raspberry-pi-5"))
    batch = build("latency", context).estimate(archs)
    assert batch.fidelity == "predicted"
    assert np.abs(batch.value / true - 1).mean() < 0.02
