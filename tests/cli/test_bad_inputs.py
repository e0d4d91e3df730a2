"""What a user sees after a mistake: one message and a documented exit code, nothing lost.

`python tests/cli/test_bad_inputs.py docs/results/bad-inputs.md` writes the table of all cases.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

TOY = ["search", "--space", "toy", "--objective", "toy_quality", "--objective", "bitops",
       "--max-evaluations", "60", "--population", "20", "--quiet"]  # fmt: skip

COST = """
import numpy as np
class Cost:
    name = "mine"
    unit = "ms"
    direction = "min"
    def __init__(self, context): pass
    def evaluate(self, archs):
        {body}
"""


def cost_file(body: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "mine.py").write_text(COST.format(body=body))


def write(name: str, text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return make


def together(*makers: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for maker in makers:
            maker(folder)

    return make


def finished_run(folder: Path) -> None:
    code, message = run([*TOY, "--out", "run"], folder)
    assert code == 0, message


def run_with_plugin(folder: Path) -> None:
    cost_file("return np.array([a['resolution'] for a in archs], float)")(folder)
    code, message = run([*TOY, "--cost", "./mine.py:Cost", "--out", "run"], folder)
    assert code == 0, message


def damaged(folder: Path) -> None:
    finished_run(folder)
    file = folder / "run" / "evaluations.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([lines[0], "{not json}\n", *lines[2:]]))


def picture(name: str, side: int = 32, value: int = 0) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        import numpy as np
        from PIL import Image

        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((side, side), value, np.uint8)).save(folder / name)

    return make


def small_tensors(folder: Path) -> None:
    import torch

    torch.save({"image_encoder.pos_embed": torch.zeros(1, 2, 2, 4)}, folder / "small.pth")


@dataclass(frozen=True)
class Case:
    """A mistake, its command, and what must come of it."""

    name: str
    arguments: list[str]
    code: int
    said: tuple[str, ...]
    make: Callable[[Path], None] = field(default=lambda _: None)


SAM = ["search", "--max-evaluations", "4", "--population", "4", "--quiet"]
CASES = [
    Case("unknown device", [*TOY, "--device", "jetson-oron"], 4, ("jetson-orin",)),
    Case("unknown mode of a device", [*TOY, "--device", "jetson-orin:16w"], 4, ("15w",)),
    Case("unknown space", ["search", "--space", "sam-vit-q"], 2, ("sam-vit-", "Known")),
    Case("unknown cost model", [*TOY, "--objective", "bitop"], 2, ("'bitops'",)),
    Case("objective named twice", [*TOY, "--objective", "bitops"], 2, ("twice: bitops",)),
    Case("latency without a device", [*TOY, "--objective", "latency"], 2, ("--device",)),
    Case("limit of another form", [*TOY, "--limit", "bitops=3"], 2, ("NAME<=VALUE",)),
    Case("limit that is no number", [*TOY, "--limit", "bitops<=3ms"], 2, ("not a number",)),
    Case("limit without a cost model", [*TOY, "--limit", "speed<=3"], 2, ("speed",)),
    Case("limit that no design meets", [*TOY, "--limit", "bitops<=1e-9"], 3, ("bitops", "best")),
    Case("three problems at once",
         [*TOY, "--device", "nowhere", "--limit", "speed", "--objective", "nothing"], 2,
         ("3 problems", "nowhere", "speed", "nothing")),
    Case("unknown key in a configuration", ["search", "--config", "run.yaml"], 2,
         ("pop_sise", "unknown key", "algorithm"),
         write("run.yaml", "space: toy\npop_sise: 3\nalgorithm: genetic\n")),
    Case("configuration that is not YAML", ["validate", "run.yaml"], 2, ("not valid YAML",),
         write("run.yaml", "space: [toy\n")),
    Case("configuration that is missing", ["validate", "gone.yaml"], 2, ("gone.yaml",)),
    Case("setting of another form", [*TOY, "--set", "bitops.part=system"], 2, ("cost.NAME",)),
    Case("unknown option of a cost model", [*TOY, "--set", "cost.bitops.prompt=3"], 2,
         ("prompts",)),
    Case("frozen gene that is unknown", [*TOY, "--set", "freeze.resolutoin=64"], 2,
         ("resolution",)),
    Case("population of one", [*TOY, "--population", "1"], 2, ("population",)),
    Case("exhaustive search of a huge space",
         ["search", "--space", "mobile-cnn", "--algorithm", "exhaustive", "--objective", "bitops"],
         2, ("mobile-cnn",)),
    Case("cost model file that is missing", [*TOY, "--cost", "./gone.py"], 2, ("gone.py",)),
    Case("cost model file that fails", [*TOY, "--cost", "./mine.py"], 2, ("NameError",),
         write("mine.py", "import numpy\nnump.zeros(3)\n")),
    Case("cost model without evaluate", [*TOY, "--cost", "./mine.py:Cost"], 2,
         ("evaluate(archs) is missing",),
         write("mine.py", "class Cost:\n    name = unit = 'x'\n    direction = 'min'\n"
               "    def __init__(self, context): pass\n")),
    Case("cost model with a wrong direction", [*TOY, "--cost", "./mine.py:Cost"], 2, ("'up'",),
         write("mine.py", COST.format(body="return 0").replace('"min"', '"up"'))),
    Case("cost model that answers NaN", [*TOY, "--cost", "./mine.py:Cost"], 2, ("nan", "mine"),
         cost_file("return np.full(len(archs), np.nan)")),
    Case("cost model that raises", [*TOY, "--cost", "./mine.py:Cost"], 2, ("KeyError", "mine"),
         cost_file("raise KeyError('table')")),
    Case("cost model of a wrong shape", [*TOY, "--cost", "./mine.py:Cost"], 2, ("shape",),
         cost_file("return np.zeros((len(archs), 2))")),
    Case("cost model that fails for few designs", [*TOY, "--cost", "./mine.py:Cost"], 0,
         ("",),
         cost_file("if any(a.id[0] == '0' for a in archs): raise ValueError('no kernel')\n"
                   "        return np.ones(len(archs))")),
    Case("run folder that exists", [*TOY, "--out", "run"], 2, ("exists already", "resume"),
         lambda folder: (folder / "run").mkdir()),
    Case("run folder that cannot be written", [*TOY, "--out", "/proc/hwnas/run"], 2,
         ("cannot create", "--out")),
    Case("resuming what is no run", ["resume", "."], 2, ("not a run folder",)),
    Case("resuming with a changed plug-in", ["resume", "run"], 2, ("mine.py", "changed"),
         together(run_with_plugin, cost_file("return np.ones(len(archs))"))),
    Case("resuming a damaged run", ["resume", "run"], 2, ("line 2",), damaged),
    Case("device file with three problems", [*TOY, "--device", "./board.yaml"], 2,
         ("problems", "bandwith_gbps"),
         write("board.yaml", "id: board\nname: Board\nkind: gpu\nbandwith_gbps: 3\n")),
    Case("space file with two problems", ["search", "--space", "./space.yaml"], 2,
         ("problems",),
         write("space.yaml", "name: x\nlink: []\nchoices:\n  - ordinl: width\n")),
    Case("truncated checkpoint", [*SAM, "--supernet", "cut.safetensors"], 2,
         ("cut.safetensors",), write("cut.safetensors", "\x10\0\0\0")),
    Case("checkpoint of another shape", [*SAM, "--space", "sam-vit-b", "--supernet", "small.pth"],
         2, ("small.pth",), small_tensors),
    Case("space without its supernet", [*SAM, "--space", "sam-vit-b"], 2, ("--supernet",)),
    Case("empty image folder", [*SAM, "--data", "data"], 2, ("images/",),
         lambda folder: (folder / "data").mkdir()),
    Case("image without a mask", [*SAM, "--data", "data"], 2, ("b.png", "no mask"),
         together(picture("data/images/a.png"), picture("data/images/b.png"),
                  picture("data/masks/a.png"))),
    Case("masks without objects", [*SAM, "--data", "data"], 2, ("a",),
         together(picture("data/images/a.png"), picture("data/masks/a.png"))),
    Case("unreadable image", [*SAM, "--data", "data"], 2, ("a.png",),
         together(write("data/images/a.png", "no picture"), picture("data/masks/a.png"))),
    Case("mask of another size", [*SAM, "--data", "data"], 2, ("a.png", "8x8", "32x32"),
         together(picture("data/images/a.png"), picture("data/masks/a.png", 8))),
    Case("image of one pixel", [*SAM, "--data", "data"], 2, ("1x1", "at least 8"),
         together(picture("data/images/a.png", 1), picture("data/masks/a.png", 1))),
    Case("pixel value that is no class", [*SAM, "--data", "data"], 2, ("200", "classes.txt"),
         together(picture("data/images/a.png"), picture("data/labels/a.png", value=200),
                  write("data/classes.txt", "cell\n"))),
    Case("COCO file of another form", ["evaluate", "sam-vit-t", "--data", "data"], 2,
         ("annotations.json", "categories"), write("data/annotations.json", '{"images": []}')),
    Case("split that does not exist",
         ["evaluate", "sam-vit-t", "--data", "data", "--split", "vall"], 2, ("vall", "val"),
         together(picture("data/images/a.png"), picture("data/masks/a.png"),
                  write("data/split.csv", "name,split\na,val\n"))),
    Case("subnets from nowhere", ["evaluate", "sam-vit-t", "--archs", "gone.jsonl"], 2,
         ("gone.jsonl", "random:N")),
    Case("evaluation that exists already",
         ["evaluate", "sam-vit-t", "--archs", "largest", "--out", "lines.jsonl"], 2,
         ("lines.jsonl", "--resume"), write("lines.jsonl", "")),
    Case("prompt of another kind", ["evaluate", "sam-vit-t", "--prompt", "mask"], 2,
         ("mask", "box or point")),
    Case("design that is no design", ["predict", "--space", "toy", "--arch", '{"space": "toy"}'],
         2, ("genes",)),
]  # fmt: skip


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(arguments: list[str], folder: Path) -> tuple[int, str]:
    """Run the command in this process; returns its exit code and what it said on errors."""
    from hwnas.cli import main

    out, err = io.StringIO(), io.StringIO()
    with (
        inside(folder),
        mock.patch.object(sys, "argv", ["hwnas", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as leaving:
            return int(leaving.code or 0), err.getvalue()
    return 0, err.getvalue()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_message_helps(case: Case, tmp_path: Path) -> None:
    case.make(tmp_path)
    code, message = run(case.arguments, tmp_path)
    assert "Traceback" not in message
    assert (code, [part for part in case.said if part not in message]) == (case.code, []), message


def test_a_refused_run_leaves_nothing_behind(tmp_path: Path) -> None:
    run([*TOY, "--limit", "speed<=3", "--out", "run"], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_full_disk(tmp_path: Path) -> None:
    """On a real file system of 64 KiB."""
    message = on_full_disk(tmp_path)
    if message is None:
        pytest.skip("mounting a small file system needs root")
    code, text = message
    assert code == 2
    assert "disk is full" in text
    assert "Traceback" not in text


def on_full_disk(folder: Path) -> tuple[int, str] | None:
    small = folder / "small"
    small.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)],
        capture_output=True, check=False,
    ).returncode == 0  # fmt: skip
    if not mounted:
        return None
    try:
        return run([*TOY, "--max-evaluations", "600", "--out", str(small / "run")], folder)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def main(path: str) -> None:
    """Write the table."""
    lines = [
        "# Bad inputs", "",
        "Every mistake below ends with one message and the exit code beside it (0 ok, 2 usage or",
        "configuration, 3 no feasible design, 4 device, 130 interrupted). Made by",
        f"`python tests/cli/test_bad_inputs.py {path}`; the same cases are tests.", "",
        "| mistake | command | exit code | message |", "|---|---|---|---|",
    ]  # fmt: skip
    for case in CASES:
        with tempfile.TemporaryDirectory() as name:
            case.make(Path(name))
            code, message = run(case.arguments, Path(name))
        lines.append(row(case.name, case.arguments, code, message))
    with tempfile.TemporaryDirectory() as name:
        full = on_full_disk(Path(name))
        if full is not None:
            lines.append(row("full disk (64 KiB)", [*TOY, "--out", "small/run"], *full))
    Path(path).write_text("\n".join(lines) + "\n")


def row(name: str, arguments: list[str], code: int, message: str) -> str:
    command = "hwnas " + " ".join(arguments).replace(" ".join(TOY), "search …").replace("|", "\\|")
    for path, word in ((tempfile.gettempdir(), "/tmp"), (str(Path(__file__).parents[2]), "…")):
        message = message.replace(path, word)
    message = re.sub(r"/tmp/tmp\w+/", "", message)
    text = message.strip().replace("|", "\\|").replace("\n", "<br>").replace("  ", "&nbsp; ")
    return f"| {name} | `{command}` | {code} | {text} |"


if __name__ == "__main__":
    main(sys.argv[1])
