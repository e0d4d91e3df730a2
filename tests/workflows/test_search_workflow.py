"""The main job from Python: the same front as the command line, as a resumed run, as workers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import hwnas
from hwnas.config import make_config
from hwnas.cost import CostContext
from hwnas.errors import ConfigError, InfeasibleError, RunError
from hwnas.space import SearchSpace, ordinal
from hwnas.workflows.explain import explain
from hwnas.workflows.predict import predict
from hwnas.workflows.report import write_report
from hwnas.workflows.search import resume_search, run_search

TOY = {"space": "toy", "max_evaluations": 120, "population": 20}


class Squares:
    """A stranger's cost model."""

    name = "squares"
    unit = "px2"
    direction = "min"

    def __init__(self, context: CostContext, *, offset: float = 0.0) -> None:
        self._offset = offset

    def evaluate(self, archs):
        return np.array([a["resolution"] ** 2 + self._offset for a in archs], dtype=np.float64)


def test_python_gives_the_front_of_the_run_folder(tmp_path: Path) -> None:
    outcome = run_search(make_config("test", dict(TOY)), out=tmp_path / "run")
    front = hwnas.search(**TOY)
    assert front.ids == outcome.result.front.ids
    written = json.loads((tmp_path / "run" / "front.json").read_text())
    assert [design["arch_id"] for design in written["designs"]] == list(front.ids)
    assert {"report.html", "front.png", "front.csv", "config.yaml"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }


def test_resuming_a_cut_run_gives_the_same_front(tmp_path: Path) -> None:
    whole = run_search(make_config("test", dict(TOY)), out=tmp_path / "run")
    evaluations = tmp_path / "run" / "evaluations.jsonl"
    text = evaluations.read_text()
    evaluations.write_text(text[: len(text) // 2])
    for name in ("front.json", "front.csv", "report.html"):
        (tmp_path / "run" / name).unlink()
    again = resume_search(tmp_path / "run")
    assert again.result.front.to_json() == whole.result.front.to_json()
    assert (tmp_path / "run" / "report.html").stat().st_size > 100_000


def test_a_finished_run_is_read_back_without_evaluating(tmp_path: Path) -> None:
    whole = run_search(make_config("test", dict(TOY)), out=tmp_path / "run")
    before = (tmp_path / "run" / "evaluations.jsonl").read_bytes()
    again = resume_search(tmp_path / "run")
    assert again.result.front.ids == whole.result.front.ids
    assert (tmp_path / "run" / "evaluations.jsonl").read_bytes() == before


def test_processes_give_the_front_of_one_process() -> None:
    serial = hwnas.search(**TOY)
    spread = hwnas.search(**TOY, executor="processes", workers=2)
    assert spread.to_json() == serial.to_json()


def test_classes_and_objects_are_objectives() -> None:
    front = hwnas.search(objectives=["toy_quality", Squares], **TOY)
    assert front.names == ("toy_quality", "squares")
    context = CostContext(space=front.archs.space)
    same = hwnas.search(objectives=["toy_quality", Squares(context)], **TOY)
    assert same.ids == front.ids


def test_a_cost_with_the_name_of_a_default_takes_its_place() -> None:
    class Mine(Squares):
        name = "bitops"

    front = hwnas.search(costs=[Mine], **TOY)
    assert front.names == ("toy_quality", "bitops")
    assert front.units[1] == "px2"


def test_limits_hold_for_every_design_of_the_front() -> None:
    front = hwnas.search(limits=["bitops<=0.1", "toy_quality>=0.3"], **TOY)
    assert (front.values[:, front.names.index("bitops")] <= 0.1).all()
    assert (front.values[:, front.names.index("toy_quality")] >= 0.3).all()


def test_an_impossible_limit_names_the_best_value() -> None:
    with pytest.raises(InfeasibleError, match="bitops"):
        hwnas.search(limits=["bitops<=1e-9"], **TOY)


def test_a_limit_may_name_a_registered_cost_that_is_no_objective() -> None:
    front = hwnas.search(limits=["model_size<=30000"], **TOY)
    assert front.names == ("toy_quality", "bitops", "model_size")
    assert (front.values[:, 2] <= 30000).all()


def test_a_space_without_lowering_and_a_cost_of_ones_own() -> None:
    space = SearchSpace("mine", [ordinal("width", (1, 2, 4)), ordinal("resolution", (8, 16))])

    class Width(Squares):
        name = "width"
        direction = "max"

        def evaluate(self, archs):
            return np.array([float(a["width"]) for a in archs])

    front = hwnas.search(space, objectives=[Squares, Width], max_evaluations=6, population=4)
    assert len(front) == 1
    assert front[0].arch.genes == {"width": 4, "resolution": 8}


def test_frozen_genes_keep_their_value() -> None:
    front = hwnas.search(freeze={"resolution": 96}, **TOY)
    assert set(front.archs.values("resolution")) == {96}


def test_a_run_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(RunError, match="exists already"):
        run_search(make_config("test", dict(TOY)), out=tmp_path / "run")


def test_all_problems_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        hwnas.search("toy", device="nowhere", limits=["speed<=3", "what"])
    assert all(word in str(caught.value) for word in ("nowhere", "speed", "what"))


def test_a_report_can_be_written_from_an_unfinished_run(tmp_path: Path) -> None:
    run_search(make_config("test", dict(TOY)), out=tmp_path / "run")
    evaluations = tmp_path / "run" / "evaluations.jsonl"
    lines = evaluations.read_text().splitlines(keepends=True)
    evaluations.write_text("".join(lines[:30]))
    for name in ("front.json", "front.csv", "report.html", "front.png"):
        (tmp_path / "run" / name).unlink()
    assert all(path.stat().st_size for path in write_report(tmp_path / "run"))


def test_predict_prices_reference_designs_and_given_ones() -> None:
    rows = predict("toy", costs=["bitops"])
    assert rows[0]["design"] == "largest"
    arch = hwnas.search(**TOY)[0].arch
    (row,) = predict("toy", costs=["bitops"], archs=[arch.to_json()])
    assert row["arch"] == arch.id


def test_explain_times_each_cost() -> None:
    explanation = explain(make_config("test", dict(TOY)))
    assert explanation.seconds_per_evaluation.keys() == {"toy_quality", "bitops"}
    assert explanation.expected_seconds > 0
