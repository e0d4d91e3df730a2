"""Kill it anywhere, resume it: the front is that of the undisturbed run."""

import importlib.util
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from hwnas.errors import Interrupted, RunError
from hwnas.records import RunFolder
from hwnas.search import Problem, Progress, run_nsga2

Make = Callable[..., Problem]


@pytest.fixture(scope="module")
def killing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("killing", Path(__file__).parent / "killing.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def create(path: Path) -> RunFolder:
    return RunFolder.create(path, config={}, command="", seeds={}, inputs={}, environment={})


def go(problem: Problem, folder: RunFolder | None, **options: object):  # type: ignore[no-untyped-def]
    return run_nsga2(
        problem,
        population=20,
        max_evaluations=150,
        seed=3,
        folder=folder,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.slow
def test_killed_at_five_random_moments(killing: ModuleType, tmp_path: Path) -> None:
    expected = killing.search(None).front.to_csv()
    rng = random.Random(5)
    saved = []
    for kill in range(5):
        count, front = killing.kill_and_resume(tmp_path / str(kill), rng.random())
        assert front == expected
        saved.append(count)
    assert min(saved) < killing.EVALUATIONS  # at least one was really cut short


@pytest.mark.parametrize("cut", [0, 1, 500, 20_000, 60_000])
def test_cut_after_any_byte(rough: Make, tmp_path: Path, cut: int) -> None:
    with create(tmp_path / "run") as folder:
        expected = go(rough("quality", "latency", limits=["bitops<=80"]), folder)
        text = (folder.path / "evaluations.jsonl").read_bytes()
    assert len(text) > 60_000
    (tmp_path / "run" / "evaluations.jsonl").write_bytes(text[:cut])
    with RunFolder.open(tmp_path / "run") as folder:
        again = go(rough("quality", "latency", limits=["bitops<=80"]), folder)
        stored = folder.evaluations()
    assert again.front.to_json() == expected.front.to_json()
    assert again.history == expected.history
    assert again.reference_point == expected.reference_point
    assert [e.index for e in stored] == list(range(150))
    assert tuple(e.arch_id for e in stored) == expected.evaluated.archs.ids


def test_what_is_stored_is_not_evaluated_again(rough: Make, tmp_path: Path) -> None:
    with create(tmp_path / "run") as folder:
        first = go(rough("quality", "latency"), folder)
        problem = rough("quality", "latency")
        again = go(problem, folder)
        assert [c.model.calls for c in problem.columns] == [0, 0]  # type: ignore[attr-defined]
        assert len(folder.evaluations()) == 150
    assert again.front.to_csv() == first.front.to_csv()
    assert (tmp_path / "run" / "front.csv").read_text() == first.front.to_csv()
    assert (
        json.loads((tmp_path / "run" / "front.json").read_text()) == first.front.designs.to_dict()
    )


def test_interrupted_by_the_user(rough: Make, tmp_path: Path) -> None:
    def press_ctrl_c(progress: Progress) -> None:
        if progress.generation == 3:
            raise KeyboardInterrupt

    with create(tmp_path / "run") as folder:
        with pytest.raises(Interrupted, match=r"60 of 150.*hwnas resume .*run") as caught:
            go(rough("quality", "latency"), folder, on_generation=press_ctrl_c)
        assert caught.value.exit_code == 130
        assert folder.state()["status"] == "interrupted"
        assert folder.state()["evaluations"] == len(folder.evaluations()) == 60
        seen: list[Progress] = []
        resumed = go(rough("quality", "latency"), folder, on_generation=seen.append)
        assert folder.state()["status"] == "finished"
    assert [p.evaluations_per_s is None for p in seen[:3]] == [True] * 3  # read, not evaluated
    assert resumed.front.to_csv() == go(rough("quality", "latency"), None).front.to_csv()
    with pytest.raises(Interrupted, match="no run folder"):
        go(rough("quality", "latency"), None, on_generation=press_ctrl_c)


def test_ctrl_c_inside_a_cost_model_keeps_what_came_before(rough: Make, tmp_path: Path) -> None:
    class Pressed:
        name, unit, direction = "pressed", "1", "min"
        left = 3

        def evaluate(self, archs):  # type: ignore[no-untyped-def]
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return np.array([float(len(arch.genes)) for arch in archs])

    with create(tmp_path / "run") as folder:
        with pytest.raises(Interrupted):
            go(rough("quality", "pressed", pressed=Pressed()), folder)
        assert len(folder.evaluations()) == 20


def test_a_full_disk_stops_the_run_and_it_can_be_resumed(
    rough: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create(tmp_path / "run") as folder:
        append, left = folder.append, [4]

        def filling(*evaluations: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise RunError("cannot append: the disk is full")
            append(*evaluations)  # type: ignore[arg-type]

        monkeypatch.setattr(folder, "append", filling)
        with pytest.raises(RunError, match="disk is full"):
            go(rough("quality", "latency"), folder)
        assert folder.state()["status"] == "failed"
    with RunFolder.open(tmp_path / "run") as folder:
        resumed = go(rough("quality", "latency"), folder)
    assert resumed.front.to_csv() == go(rough("quality", "latency"), None).front.to_csv()


def test_a_folder_of_another_space_is_refused(
    rough: Make, killing: ModuleType, tmp_path: Path
) -> None:
    with create(tmp_path / "run") as folder:
        go(rough("quality", "latency"), folder)
        with pytest.raises(RunError, match="is not of the space toy"):
            killing.search(folder)
