"""Answers of cost models that a study keeps: asked once, timed once, there after Ctrl-C."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hwnas.errors import ConfigError, CostError, Interrupted, RunError
from hwnas.space import Arch, Archs, load_space
from hwnas.workflows.study_memory import KeptCost, Memory, keep_inside, open_records, refuse_folder

SPACE = load_space("toy")
ARCHS = SPACE.sample(np.random.default_rng(0), 40)


class Depth:
    """Depths; refuses an arch, or is interrupted at it."""

    name, unit, direction = "deep", "layers", "max"

    def __init__(self, at: str = "", error: BaseException | None = None) -> None:
        self.batches: list[tuple[str, ...]] = []
        self.at, self.error = at, error

    def evaluate(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        own = Archs.of(SPACE, archs)
        self.batches.append(own.ids)
        if self.at in own.ids and self.error is not None:
            raise self.error
        return np.array([float(arch["depth"]) / 3 for arch in own])


def settings() -> dict[str, Any]:
    return {"study": "tried"}


def test_each_arch_is_asked_about_once_in_growing_batches() -> None:
    model, records = Depth(), Memory()
    kept = KeptCost(model, SPACE, records, "value")  # type: ignore[arg-type]
    values = kept.evaluate(ARCHS)
    assert [len(batch) for batch in model.batches] == [1, 2, 4, 8, 16, 9]
    np.testing.assert_array_equal(values, [arch["depth"] / 3 for arch in ARCHS])
    np.testing.assert_array_equal(kept.evaluate(ARCHS[::-1]), values[::-1])
    assert len(model.batches) == 6
    assert (kept.name, kept.unit, kept.direction) == ("deep", "layers", "max")
    assert kept.seconds_before == 0, "all were asked about here"
    assert kept.evaluate([]).shape == (0,)


def test_seconds_of_answers_that_were_there_before_are_told_once() -> None:
    records = Memory()
    for arch_id in ARCHS.ids[:3]:
        records.add(f"value/{arch_id}", {"value": 0.5, "seconds": 2.0})
    kept = KeptCost(Depth(), SPACE, records, "value")  # type: ignore[arg-type]
    for _ in range(2):
        assert kept.evaluate(ARCHS)[:3].tolist() == [0.5] * 3
        assert kept.seconds_before == 6.0


@pytest.mark.parametrize("error", [CostError("no such depth"), KeyboardInterrupt()])
def test_what_was_answered_before_a_failure_is_on_disk(
    error: BaseException, tmp_path: Path
) -> None:
    out, model = tmp_path / "out", Depth(ARCHS.ids[20], error)
    told = Interrupted if isinstance(error, KeyboardInterrupt) else CostError
    with (
        pytest.raises(told, match=r"no such depth|measured is in .*out: go on with --resume"),
        open_records(out, settings, resume=False) as records,
    ):
        KeptCost(model, SPACE, records, "value").evaluate(ARCHS)  # type: ignore[arg-type]
    lines = [json.loads(line) for line in (out / "measurements.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [f"value/{name}" for name in ARCHS.ids[:15]]
    again = Depth()
    with open_records(out, settings, resume=True) as records:
        KeptCost(again, SPACE, records, "value").evaluate(ARCHS)  # type: ignore[arg-type]
    assert [name for batch in again.batches for name in batch] == list(ARCHS.ids[15:])


def test_without_a_folder_nothing_is_kept_and_settings_are_not_asked_for() -> None:
    def never() -> dict[str, Any]:
        raise AssertionError

    with open_records(None, never, resume=False) as records:
        records.add("a", {"b": 1})
        assert records["a"] == {"b": 1}
    with pytest.raises(Interrupted, match=r"^interrupted$"), open_records(
        None, never, resume=False
    ):  # fmt: skip
        raise KeyboardInterrupt


def test_folders_that_cannot_be_taken_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CostError), open_records(out, settings, resume=False):
        raise CostError("nothing was kept")
    assert not out.exists()
    with pytest.raises(Interrupted), open_records(out, settings, resume=False):
        raise KeyboardInterrupt
    assert out.exists(), "the sentence says that it is there"
    with pytest.raises(RunError, match="exists already"):
        refuse_folder(out, resume=False)
    refuse_folder(out, resume=True)
    with pytest.raises(ConfigError, match="--out DIR"):
        refuse_folder(None, resume=True)


def test_two_models_that_measure_inside_keep_apart() -> None:
    class Inside(Depth):
        def remember_in(self, records: Any) -> None:
            self.records = records

    one, other, records = Inside(), Inside(), Memory()
    keep_inside({"one": one, "other": other, "plain": Depth()}, records)  # type: ignore[dict-item]
    one.records.add("part", {"a": 1})
    assert "part" in one.records
    assert "part" not in other.records
    assert records == {"inside/one/part": {"a": 1}}


def test_models_of_one_memory_share_it() -> None:
    class Inside(Depth):
        memory = "both"

        def remember_in(self, records: Any) -> None:
            self.records = records

    one, other, records = Inside(), Inside(), Memory()
    keep_inside({"one": one, "other": other}, records)  # type: ignore[dict-item]
    one.records.add("part", {"a": 1})
    assert other.records["part"] == {"a": 1}
    assert records == {"inside/both/part": {"a": 1}}
