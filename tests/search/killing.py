"""Kill -9 a search at random moments and resume it.

As a script: `python tests/search/killing.py FOLDER` runs the search that is killed, and
`python tests/search/killing.py --kills 20` kills and resumes 20 of them.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cost_models.bitops import Bitops
from cost_models.toy_quality import ToyQuality
from hwnas.cost import CostContext
from hwnas.records import RunFolder
from hwnas.search import Objective, Problem, SearchResult, run_nsga2
from hwnas.space import Arch
from search_spaces.toy import toy

EVALUATIONS = 300


class Slow:
    """A cost model that takes its time, so that there is a moment to be killed in."""

    def __init__(self, model: ToyQuality, seconds: float) -> None:
        self.name, self.unit, self.direction = model.name, model.unit, model.direction
        self._model, self._seconds = model, seconds

    def evaluate(self, archs: Sequence[Arch]) -> np.ndarray:
        time.sleep(self._seconds * len(archs))
        return self._model.evaluate(archs)


def search(folder: RunFolder | None, seconds: float = 0.0) -> SearchResult:
    """The search that everything here runs."""
    context = CostContext(space=toy())
    models = (Slow(ToyQuality(context), seconds), Bitops(context))
    problem = Problem(context.space, tuple(Objective.of(model) for model in models))
    return run_nsga2(problem, population=30, max_evaluations=EVALUATIONS, seed=11, folder=folder)


def create(path: Path) -> RunFolder:
    return RunFolder.create(path, config={"seed": 11}, command="", seeds={}, inputs={})


def kill_and_resume(path: Path, moment: float) -> tuple[int, str]:
    """Kill a run once a share of it (`moment`, 0 to 1) is saved and a little later; resume it.

    Returns how many evaluations it had saved, and its front as CSV.
    """
    child = subprocess.Popen([sys.executable, __file__, str(path)])
    deadline = time.monotonic() + 120
    try:
        while child.poll() is None and _saved(path) <= moment * EVALUATIONS:
            if time.monotonic() > deadline:
                raise AssertionError("the search takes too long")
            time.sleep(0.002)
        time.sleep(moment * 1000 % 1 * 0.06)  # anywhere within a generation
    finally:
        child.kill()
        child.wait()
    with RunFolder.open(path) as folder:
        saved = len(folder.evaluations())
        search(folder)
        return saved, folder.read_text("front.csv")


def _saved(path: Path) -> int:
    lines = path / "evaluations.jsonl"
    return lines.read_bytes().count(b"\n") if lines.exists() else 0


def main(arguments: Sequence[str]) -> None:
    if arguments[0] != "--kills":
        with create(Path(arguments[0])) as folder:
            search(folder, seconds=0.002)
        return
    expected = search(None).front.to_csv()
    for kill in range(int(arguments[1])):
        moment = random.random()
        with tempfile.TemporaryDirectory() as name:
            saved, front = kill_and_resume(Path(name) / "run", moment)
        same = "the same front" if front == expected else "ANOTHER FRONT"
        sys.stdout.write(f"kill {kill + 1}: after {saved} of {EVALUATIONS}: {same}\n")
        if front != expected:
            raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
