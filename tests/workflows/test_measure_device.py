"""`hwnas measure` and `search --verify` on this machine: kill -9, Ctrl-C, two at once."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas.measure.store import MeasurementStore

pytest.importorskip("tvm")
pytestmark = [pytest.mark.tvm, pytest.mark.slow]

HWNAS = str(Path(sys.executable).with_name("hwnas"))
MEASURE = ["measure", "--device", "host", "--space", "toy", "--samples", "6", "--subnets", "2"]
SEARCH = [
    "search", "--space", "toy", "--device", "host", "--objective", "toy_quality", "--objective",
    "latency", "--max-latency-ms", "0.03", "--limit-on", "point", "--max-evaluations", "100",
    "--verify", "3",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests: stores of their own, one cache of compiled kernels."""
    return tmp_path_factory.mktemp("place")


def start(place: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [HWNAS, *arguments],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )


def finish(child: subprocess.Popen[str]) -> str:
    out, said = child.communicate(timeout=300)
    assert child.returncode == 0, said
    return out


def run(place: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(finish(start(place, *arguments, "--json")))
    return found


def wait_until(found: Callable[[], bool], child: subprocess.Popen[str]) -> None:
    while not found():
        assert child.poll() is None, child.communicate()
        time.sleep(0.05)


def rows(store: Path) -> int:
    if not store.exists():
        return 0
    with MeasurementStore(store) as found:
        return len(found)


def keys(store: Path) -> Counter[str]:
    with MeasurementStore(store) as found:
        assert all(m.value_ms and m.status != "failed" for m in found)
        first = [m for m in found if not {"again", "visit"} & set(m.details)]
        return Counter(m.key for m in first)


def test_kill_9_and_ctrl_c_and_the_same_command_goes_on(place: Path) -> None:
    whole = run(place, *MEASURE, "--store", "whole.sqlite")
    assert (whole["measured"], whole["known"], whole["failures"]) == (8, 0, 0)
    assert whole["measured_twice"] >= 3
    for store, end in (("killed.sqlite", signal.SIGKILL), ("stopped.sqlite", signal.SIGINT)):
        child = start(place, *MEASURE, "--store", store)
        wait_until(lambda store=store: rows(place / store) >= 2, child)
        child.send_signal(end)
        _, said = child.communicate()
        assert child.returncode == (-signal.SIGKILL if end == signal.SIGKILL else 130)
        assert "Traceback" not in said
        assert end == signal.SIGKILL or "the same command goes on" in said
        saved = rows(place / store)
        rest = run(place, *MEASURE, "--store", store)
        assert rest["known"] == saved
        assert rest["measured"] == 8 - saved
        assert keys(place / store) == keys(place / "whole.sqlite")


def test_two_processes_share_the_work(place: Path) -> None:
    both = [start(place, *MEASURE, "--store", "shared.sqlite", "--json") for _ in range(2)]
    found = [json.loads(finish(child)) for child in both]
    assert sum(f["measured"] for f in found) == 8
    assert set(keys(place / "shared.sqlite").values()) == {1}


def test_a_killed_verification_goes_on_and_broken_limits_are_said(place: Path) -> None:
    child = start(place, *SEARCH, "--out", "cut")
    verified = place / "cut" / "verified.csv"
    wait_until(verified.exists, child)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    before = list(csv.DictReader(verified.read_text().splitlines()))
    found = run(place, "resume", "cut")
    after = list(csv.DictReader(verified.read_text().splitlines()))
    assert 1 <= len(before) <= len(after) == len(found["verified"]["designs"]) <= 3
    assert after[: len(before)] == before
    front = {d["arch_id"]: d for d in found["designs"]}
    page = (place / "cut" / "report.html").read_text()
    for row in after:
        assert float(row["predicted"]) == front[row["arch_id"]]["values"]["latency"] <= 0.03
        slow = float(row["measured"]) > 0.03
        assert (row["broken"] == "latency<=0.03") == slow
        assert (f"is broken by design {row['arch_id']}" in page) == slow
    assert "Predicted and measured" in page


def test_the_device_as_a_cost_model_is_asked_once_a_design(place: Path) -> None:
    arguments = [
        "search", "--space", "toy", "--device", "host", "--objective", "toy_quality",
        "--objective", "measured", "--max-evaluations", "6", "--population",
        "4", "--set", "cost.measured.store=loop.sqlite",
    ]  # fmt: skip
    first = run(place, *arguments, "--out", "first")
    count = rows(place / "loop.sqlite")
    again = run(place, *arguments, "--out", "again")
    assert rows(place / "loop.sqlite") == count
    assert first["designs"] == again["designs"]
    column = next(c for c in first["columns"] if c["name"] == "measured")
    assert (column["unit"], column["fidelity"]) == ("ms", "measured")


def test_what_the_predictor_knows_least_about_is_measured_next(place: Path) -> None:
    device = ["--device", "host", "--space", "toy", "--store", "known.sqlite"]
    run(place, "measure", *device, "--samples", "12", "--subnets", "24")
    said = run(place, "calibrate", *device)
    (report,) = said["reports"].values()
    assert report["fitted_on"] + report["held_out"] <= 24
    # the file that was just written is the device now, and its predictor has intervals
    more = ["measure", *device, "--samples", "12", "--subnets", "24", "--uncertain", "4"]
    found = run(place, *more)
    with MeasurementStore(place / "known.sqlite") as store:
        picked = [m for m in store if m.details.get("picked") == "uncertain"]
    assert found["measured"] == len({m.key for m in picked}) == 4
    # one that a model picked is learned from, and never judges
    again = run(place, "calibrate", *device)
    (after,) = again["reports"].values()
    assert after["fitted_on"] + after["held_out"] > report["fitted_on"] + report["held_out"]
    assert run(place, *more)["measured"] <= 4
