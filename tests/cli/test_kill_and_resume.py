"""`kill -9` at random moments, then `hwnas resume`: the front of the undisturbed run.

`python tests/cli/test_kill_and_resume.py docs/results/resume.md` does it 20 times with the trained
model and writes what came of it.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

HWNAS = str(Path(sys.executable).with_name("hwnas"))
REAL = [
    "--device", "jetson-orin", "--max-evaluations", "60", "--population", "20",
    "--set", "freeze.resolution=256",
]  # fmt: skip
SLOW = """
import time
import numpy as np
class Slow:
    name, unit, direction = "slow", "ms", "min"
    def __init__(self, context): pass
    def evaluate(self, archs):
        time.sleep(0.02 * len(archs))
        return np.array([float(a["resolution"]) for a in archs])
"""
TOY = ["--space", "toy", "--max-evaluations", "3000", "--population", "20"]


def search(arguments: list[str], run: Path) -> subprocess.Popen[str]:
    command = [HWNAS, "search", *arguments, "--quiet", "--out", str(run)]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=run.parent,
        preexec_fn=_heed_ctrl_c,  # noqa: PLW1509 - no threads here
    )


def _heed_ctrl_c() -> None:
    """A job that a shell put into the background ignores Ctrl-C, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def undisturbed(arguments: list[str], run: Path) -> None:
    child = search(arguments, run)
    _, said = child.communicate()
    assert child.returncode == 0, said


def killed_and_resumed(arguments: list[str], run: Path, after: float) -> int:
    """Kill a search `after` seconds, resume it; returns the evaluations saved by the kill."""
    child = search(arguments, run)
    while not (run / "evaluations.jsonl").exists() and child.poll() is None:
        time.sleep(0.005)
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    saved = (run / "evaluations.jsonl").read_bytes().count(b"\n")
    subprocess.run(
        [HWNAS, "resume", str(run), "--quiet"], check=True, capture_output=True, cwd=run.parent
    )
    return saved


@pytest.mark.parametrize("share", [0.2, 0.7])
def test_a_killed_search_resumes_to_the_same_front(share: float, tmp_path: Path) -> None:
    start = time.monotonic()
    undisturbed(TOY, tmp_path / "whole")
    seconds = time.monotonic() - start
    killed_and_resumed(TOY, tmp_path / "cut", share * seconds / 2)
    for name in ("front.csv", "front.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    child = search([*TOY, "--cost", "./slow.py:Slow"], tmp_path / "run")
    while not (tmp_path / "run" / "evaluations.jsonl").exists():
        time.sleep(0.005)
    child.send_signal(signal.SIGINT)
    _, said = child.communicate()
    assert child.returncode == 130
    assert "hwnas resume" in said
    assert "Traceback" not in said


def main(path: str, kills: int = 20) -> None:
    """Kill and resume the real search, and write the table."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = time.monotonic()
        undisturbed(REAL, folder / "whole")
        seconds = time.monotonic() - start
        front = (folder / "whole" / "front.csv").read_bytes()
        scores = (folder / "whole" / "rescored.json").read_bytes()
        rows = []
        for kill in range(kills):
            run, after = folder / f"cut{kill}", rng.uniform(0.0, 0.8 * seconds)
            saved = killed_and_resumed(REAL, run, after)
            same = (run / "front.csv").read_bytes() == front
            rescored = (run / "rescored.json").read_bytes() == scores
            rows.append(f"| {kill + 1} | {after:.1f} | {saved} | {same} | {rescored} |")
    lines = [
        "# Kill -9 and resume", "",
        "`hwnas search " + " ".join(REAL) + f"`, killed at {kills} random moments and continued by",
        "`hwnas resume`. The undisturbed run took "
        f"{seconds:.0f} s. `front.csv` and the scores of the final",
        "front are compared byte by byte with those of the undisturbed run.", "",
        f"Command: `python tests/cli/test_kill_and_resume.py {path}`, seed 0, 2-core x86-64.", "",
        "| kill | seconds after the start | evaluations on disk | same front | same scores |",
        "|---|---|---|---|---|", *rows,
    ]  # fmt: skip
    Path(path).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
