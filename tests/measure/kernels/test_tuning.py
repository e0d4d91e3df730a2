"""Schedules change how a kernel computes, never what; what is found is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwnas.device import find, host_profile
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import FAMILIES
from hwnas.measure.kernels.isa import PORTABLE
from hwnas.measure.kernels.schedule import DEFAULT, Schedule
from hwnas.measure.tuned import FILE, Tuned, add_tuned, digest, read_tuned
from hwnas.measure.tuning import find_schedule, is_tunable

LINEAR = Kernel.from_key("linear-30x100x70-fp32-w32a32")
INTEGER = Kernel.from_key("linear-30x100x70-int8-w4a8")
NORM = Kernel.from_key("norm-10x30-fp32-w32a32")
FAST = Schedule(rows=2, vectors=3, unroll=2)


def test_the_search_keeps_what_is_clearly_faster() -> None:
    cost = {"rows": 0.0, "vectors": 0.0, "block": -0.2, "depth": 0.1, "unroll": -0.1}
    tried = []

    def ms(schedule: Schedule) -> float:
        return 1 + sum(cost[name] for name in schedule.to_dict())

    def compare(best: Schedule, other: Schedule) -> tuple[float, float] | None:
        tried.append(other)
        return None if other.unroll == 2 else (ms(best), ms(other))

    found = find_schedule(Kernel.from_key("linear-200x600x70-fp32-w32a32"), PORTABLE, 30, compare)
    assert found.tried <= 30
    assert set(found.schedule.to_dict()) == {"block", "unroll"}
    assert found.schedule.unroll == 4  # 2 did not build
    assert (found.ms, found.default_ms) == (ms(found.schedule), 1)
    assert len(set(tried)) >= len(tried) - 1
    few = find_schedule(LINEAR, PORTABLE, 3, compare)
    assert few.tried == 3


def test_nothing_faster_leaves_the_default() -> None:
    found = find_schedule(LINEAR, PORTABLE, 5, lambda best, other: (1.0, 0.99))
    assert found.schedule == DEFAULT
    assert not is_tunable(NORM)
    assert is_tunable(INTEGER)


def test_the_file_keeps_the_last_line_of_a_kernel(tmp_path: Path) -> None:
    path = tmp_path / FILE
    assert read_tuned(path, "here") == {}
    first, last = Tuned(LINEAR, FAST, 1.0, 2.0, 4), Tuned(LINEAR, Schedule(block=48), 1.0, 2.0, 8)
    add_tuned(path, "here", first)
    with path.open("a") as file:
        file.write('{"kernel": "linear-30x1')  # a writer that was killed
    add_tuned(path, "here", last)
    add_tuned(path, "elsewhere", first)
    with path.open("a") as file:
        file.write('[]\n{"target": "here", "schedules": 3, "kernel": "warp"}\n')
    assert read_tuned(path, "here") == {LINEAR: last}


def test_the_default_has_no_digest() -> None:
    assert digest({LINEAR: DEFAULT}) == digest({}) == ""
    assert len(digest({LINEAR: FAST})) == 8
    assert digest({LINEAR: FAST, INTEGER: DEFAULT}) == digest({LINEAR: FAST})
    with pytest.raises(ValueError, match="expected whole numbers above 0"):
        Schedule.from_dict({"rows": 0})


@pytest.mark.tvm
@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(rows=2, vectors=3, block=7, unroll=4),
        Schedule(rows=5, vectors=2, depth=16, unroll=2),
    ],
)
@pytest.mark.parametrize(
    "key",
    [
        LINEAR.key,
        INTEGER.key,
        "linear-30x100x70-fp32-w4a32",
        "conv-8x20x3x1x1x9-fp32-w32a32",
        "conv_transpose-16x10x2x2x1x6-fp32-w32a32",
        "attention-2x2x5x12-int8-w8a8",
        "attention-2x2x5x12-fp32-w32a32",
        "matmul-3x10x20x30-fp32-w32a32",
    ],
)
def test_every_schedule_computes_the_same(key: str, schedule: Schedule, tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    from hwnas.measure.builder import Builder

    kernel = Kernel.from_key(key)
    # the builder checks the numbers
    assert Builder(host_profile(), tmp_path, {kernel: schedule}).build(kernel).checked


@pytest.mark.tvm
def test_a_schedule_changes_the_code_and_no_schedule_does_not() -> None:
    pytest.importorskip("tvm")
    plain = FAMILIES["linear"].emit(LINEAR, PORTABLE).script()
    given = replace(PORTABLE, schedule=FAST)
    assert FAMILIES["linear"].emit(LINEAR, given).script() != plain
    assert FAMILIES["linear"].emit(LINEAR, replace(PORTABLE, schedule=DEFAULT)).script() == plain


@pytest.mark.tvm
def test_the_builder_takes_what_was_found(tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    from hwnas.measure.builder import Builder

    plain = Builder(host_profile(), tmp_path)
    add_tuned(tmp_path / FILE, str(plain.target), Tuned(LINEAR, FAST, 1.0, 2.0, 4))
    tuned = Builder(host_profile(), tmp_path)
    assert "tuned" not in plain.version
    assert tuned.version == f"{plain.version}+tuned{digest({LINEAR: FAST})}"
    assert tuned.build(LINEAR).library != plain.build(LINEAR).library
    assert tuned.build(NORM).library == plain.build(NORM).library


@pytest.mark.tvm
@pytest.mark.slow
def test_a_kernel_is_tuned_once(tmp_path: Path) -> None:
    pytest.importorskip("tvm")
    from hwnas.config import make_measuring
    from hwnas.measure.items import kernel_item
    from hwnas.workflows.tuning import tune_kernels

    measuring = make_measuring(store=str(tmp_path / "store.sqlite"))
    items = [kernel_item(kernel) for kernel in (LINEAR, NORM)]
    report = tune_kernels(items, find("host"), 2, measuring=measuring)
    assert (len(report.gains), report.known, report.failed) == (1, 0, ())
    assert np.all(np.array(report.gains) > 0)
    assert (tmp_path / "kernels" / FILE).read_text().count("\n") == 1
    again = tune_kernels(items, find("host"), 2, measuring=measuring)
    assert (again.gains, again.known) == ((), 1)
    assert "tuned 0 kernels" in again.sentence
