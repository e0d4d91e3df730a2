"""A search that begins with the exact front: the same when resumed, and clear where it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hwnas
from hwnas.config import make_config
from hwnas.cost import CostContext
from hwnas.errors import ConfigError, InfeasibleError
from hwnas.workflows.report import report_data
from hwnas.workflows.search import Outcome, resume_search, run_search

TOY = {"space": "toy", "max_evaluations": 120, "population": 20, "start": "exact"}


class Shared:
    """A sum over blocks of widths, which HwNAS takes for one term a slot."""

    name, unit, direction = "shared", "points", "max"

    def __init__(self, context: CostContext, *, peak: bool = False) -> None:
        self._peak = peak

    def evaluate(self, archs: Any) -> np.ndarray:
        widths = [[float(v) for k, v in a.genes.items() if k.endswith("width")] for a in archs]
        return np.array([max(w) if self._peak else sum(w) for w in widths])


class Peak(Shared):
    """The widest block: no sum, and every term of it is another one."""

    name = "peak"

    def __init__(self, context: CostContext) -> None:
        super().__init__(context, peak=True)

    def terms(self) -> list[tuple[str, ...]]:
        return [(f"blocks.{i}.width",) for i in range(3)]


def run(out: Path, **more: object) -> Outcome:
    return run_search(make_config("test", {**TOY, **more}), out=out)


def test_half_of_the_exact_designs_are_given_and_all_are_compared_with(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run")
    exact = outcome.exact
    assert exact is not None
    assert (exact.objective, exact.budget) == ("toy_quality", "bitops")
    n = len(exact.designs)
    assert n > 10
    assert [d.given for d in exact.designs].count(True) == min(n // 2 + 1, 10)
    assert exact.designs[0].given
    assert exact.designs[-1].given
    first = set(outcome.result.evaluated.archs.ids[:20])
    assert {d.arch_id for d in exact.designs if d.given} <= first
    for design in exact.designs:
        behind = exact.behind(design)
        assert behind is not None
        assert behind == 0 or not design.given
        rows = outcome.result.front.values
        best = rows[rows[:, 1] <= design.values["bitops"] * (1 + 1e-9), 0].max()
        assert design.found == best
    assert exact.hypervolume_ratio is not None
    assert 0.97 < exact.hypervolume_ratio < 1.05


def test_it_beats_a_cold_start_of_the_same_length(tmp_path: Path) -> None:
    cold = hwnas.search(**{**TOY, "start": "references"})
    exact = run(tmp_path / "run").exact
    assert exact is not None
    lost = [
        d.values["toy_quality"]
        - cold.values[cold.values[:, 1] <= d.values["bitops"] * (1 + 1e-9), 0].max()
        for d in exact.designs
    ]
    ours = [exact.behind(d) or 0.0 for d in exact.designs]
    assert sum(ours) < sum(lost)


def test_a_cut_run_resumes_from_the_designs_that_it_wrote(tmp_path: Path) -> None:
    whole = run(tmp_path / "run")
    folder = tmp_path / "run"
    written = (folder / "exact.json").read_text()
    lines = (folder / "evaluations.jsonl").read_text()
    for kept in (lines[: len(lines) // 3], ""):
        (folder / "evaluations.jsonl").write_text(kept)
        again = resume_search(folder)
        assert again.result.front.to_json() == whole.result.front.to_json()
        assert (folder / "exact.json").read_text() == written
    changed = json.loads(written)
    changed["designs"] = changed["designs"][:1]
    (folder / "exact.json").write_text(json.dumps(changed))
    (folder / "evaluations.jsonl").write_text("")
    other = resume_search(folder)
    assert other.exact is not None
    assert len(other.exact.designs) == 1, "what is on disk is not solved again"


def test_the_report_shows_the_exact_front_and_the_gap(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert outcome.exact is not None
    for sentence in outcome.exact.sentences():
        assert sentence in page
    from hwnas.records import RunFolder

    with RunFolder.open(tmp_path / "run") as folder:
        data = report_data(folder, outcome.resolved)
    assert len(data.baselines["exact front"]) == len(outcome.exact.designs)
    (label,) = [name for name in data.baselines if name.startswith("best of")]
    given = {d.arch_id for d in outcome.exact.designs}
    assert not given & {e.arch_id for e in data.baselines[label]}


def test_one_objective_with_a_limit_begins_with_its_optimum(tmp_path: Path) -> None:
    outcome = run(tmp_path / "run", objectives=["toy_quality"], limits=["bitops<=0.1"])
    exact = outcome.exact
    assert exact is not None
    assert exact.budget is None
    assert exact.designs[0].found == exact.designs[0].values["toy_quality"]
    assert exact.sentences()[1] == "The search ended at the exact optimum."
    assert outcome.result.front[0].values["bitops"] <= 0.1


def test_what_has_no_exact_front_is_told_before_a_folder_is_made(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ConfigError, match=r"this search has 3 .*name two with --objective"):
        run(out, objectives=["toy_quality", "bitops", "model_size"])
    with pytest.raises(ConfigError, match=r"start=exact gives nsga2 .* the algorithm is random"):
        run(out, algorithm="random")
    with pytest.raises(ConfigError, match=r"peak is no sum .* or search without --start exact"):
        hwnas.search(objectives=[Peak], **TOY)
    assert not out.exists()


def test_limits_that_nothing_keeps_end_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError, match="the nearest has"):
        run(tmp_path / "run", limits=["bitops<=1e-9"])


def test_a_cost_of_a_strangers_takes_part() -> None:
    front = hwnas.search(objectives=[Shared, "bitops"], **TOY)
    assert front.values[:, 0].max() == 3 * 128
