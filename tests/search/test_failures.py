"""A failing cost model hurts only what it fails on, until it fails too often."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hwnas.cost import CostBatch
from hwnas.errors import CostError
from hwnas.records import RunFolder
from hwnas.search import FailurePolicy, Problem, Run, run_nsga2
from hwnas.search.pricing import price
from hwnas.search.random_search import RandomSearch
from hwnas.space import SearchSpace

Make = Callable[..., Problem]


class Picky:
    """Counts active genes; answers in `how` way where the first option of `act` is chosen."""

    name, unit, direction = "picky", "genes", "min"

    def __init__(self, how: str, share: float = 1.0) -> None:
        self.how, self.share, self.batches = how, share, []

    def _bad(self, archs):  # type: ignore[no-untyped-def]
        few = [int(arch.id, 16) % 1000 < 1000 * self.share for arch in archs]
        return np.array([arch["act"] == "relu" for arch in archs], dtype=bool) & np.array(few, bool)

    def evaluate(self, archs):  # type: ignore[no-untyped-def]
        self.batches.append(len(archs))
        values, bad = np.array([float(len(arch.genes)) for arch in archs]), self._bad(archs)
        if not bad.any():
            return values
        if self.how == "raises":
            raise CostError(f"arch {archs[int(bad.argmax())].id} has no table entry")
        if self.how == "crashes":
            return 1 / 0
        if self.how == "shape":
            return values[:, None]
        return np.where(bad, {"nan": np.nan, "inf": -np.inf}[self.how], values)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "CostError: arch .* has no table entry"),
        ("crashes", "ZeroDivisionError: division by zero"),
        ("shape", r"shape \(1, 1\) for 1 architectures; expected \(1,\)"),
        ("nan", "answered nan; expected a finite number"),
        ("inf", "answered -inf; expected a finite number"),
    ],
)
def test_only_those_that_fail_fail(space: SearchSpace, how: str, message: str) -> None:
    archs = space.sample(np.random.default_rng(0), 60)
    model = Picky(how, share=0.2)
    bad = model._bad(archs)
    assert 0 < bad.sum() < 12
    found = price({"picky": model}, archs)
    assert [bool(text) for text in found.messages] == bad.tolist()
    failed = [text for text in found.messages if text]
    assert all(re.search(f"^picky: .*{message}", text) for text in failed)
    expected = np.array([float(len(arch.genes)) for arch in archs])
    assert (found.values[~bad, 0] == expected[~bad]).all()
    assert np.isnan(found.values[bad, 0]).all()
    if how in ("raises", "crashes", "shape"):
        assert len(model.batches) < 60  # halving, not one by one


def test_failures_are_recorded_and_the_search_goes_on(
    rough: Make, space: SearchSpace, tmp_path: Path
) -> None:
    problem = rough("quality", "picky", picky=Picky("raises", share=0.3))
    with RunFolder.create(
        tmp_path / "run", config={}, command="", seeds={}, inputs={}, environment={}
    ) as folder:
        result = run_nsga2(problem, population=20, max_evaluations=120, seed=0, folder=folder)
        stored = folder.evaluations()
    failed = [e for e in stored if e.status == "failed"]
    assert len(stored) == result.evaluations == 120
    assert 0 < len(failed) == result.failed
    assert len(result.evaluated) == 120 - len(failed)
    assert all("has no table entry" in e.message for e in failed)
    assert all(set(e.values) == {"quality"} for e in failed)  # what answered is kept
    assert not {e.arch_id for e in failed} & set(result.evaluated.archs.ids)
    lines = (tmp_path / "run" / "evaluations.jsonl").read_text().splitlines()
    assert not any("NaN" in line or "Infinity" in line for line in lines)
    assert [json.loads(line)["index"] for line in lines] == list(range(120))


def test_a_model_that_fails_everywhere_stops_the_first_generation(rough: Make) -> None:
    class Broken(Picky):
        def evaluate(self, archs):  # type: ignore[no-untyped-def]
            raise ValueError("no such table: int4")

    with pytest.raises(CostError) as caught:
        run_nsga2(rough("quality", "picky", picky=Broken("")), max_evaluations=500, seed=0)
    text = str(caught.value)
    assert "100 of 100 architectures failed" in text
    assert "picky: ValueError: no such table: int4" in text
    assert "architecture " in text
    assert "hwnas costs check" in text


def test_too_large_a_share_of_failures_stops_the_run(rough: Make) -> None:
    def run(bad: float, **policy: float) -> int:
        problem = rough("quality", "picky", picky=Picky("nan", bad))
        search = RandomSearch(problem, batch=30, seed=0)
        limit = FailurePolicy(**policy) if policy else None  # type: ignore[arg-type]
        return Run(problem, search, max_evaluations=300, policy=limit).result().failed

    assert 10 <= run(0.4) <= 60  # of 300, a third of 40 %
    with pytest.raises(CostError, match=r"of \d+ architectures failed.*more than 20%"):
        run(1.0)
    assert run(1.0, share=0.9) > 60


def test_intervals_without_width_and_half_intervals_are_none(space: SearchSpace) -> None:
    class Sure:
        name, unit, direction = "sure", "ms", "min"

        def evaluate(self, archs):  # type: ignore[no-untyped-def]
            return self.estimate(archs).value

        def estimate(self, archs):  # type: ignore[no-untyped-def]
            n = len(archs)
            value = np.full(n, 5.0)
            lo, hi = value - (np.arange(n) == 1), value + (np.arange(n) == 1)
            hi[2], lo[3] = 9.0, -np.inf
            none = np.zeros(n, dtype=bool)
            return CostBatch(value, lo, hi, 0.9, none, "predicted", "ms", "sure@1")

    model = Sure()
    found = price({"sure": model}, space.sample(np.random.default_rng(0), 4))  # type: ignore[dict-item]
    assert found.fidelity == ("predicted",)
    assert found.lo[1, 0] == 4.0
    assert found.hi[1, 0] == 6.0
    assert found.hi[2, 0] == 9.0
    assert np.isnan(found.lo[[0, 3], 0]).all()
    assert np.isnan(found.hi[[0, 3], 0]).all()
