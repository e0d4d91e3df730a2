"""Cost models of the toy space that die by `kill -9` when a study has kept so many lines.

They note whom they are asked about, so that a test can say what was asked for again.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

__all__ = ["asked", "kill_at", "run", "take_up", "without_seconds", "write_plugin"]

HWNAS = str(Path(sys.executable).with_name("hwnas"))
PLUGIN = '''
import os
import signal
from pathlib import Path

import numpy as np

from hwnas.cost import build

ASKED, DIES = (Path(__file__).with_name(name) for name in ("asked.txt", "dies.txt"))


def note(what):
    with ASKED.open("a") as file:
        file.write(f"{what}\\n")
    if DIES.exists():
        log, lines = DIES.read_text().split()
        if Path(log).exists() and Path(log).read_bytes().count(b"\\n") >= int(lines):
            os.kill(os.getpid(), signal.SIGKILL)


class Noted:
    """The toy quality; dies in the middle of a batch."""

    name, unit, direction = "noted", "score", "max"

    def __init__(self, context):
        self.inner = build("toy_quality", context)

    def evaluate(self, archs):
        for arch in archs:
            note(arch.id)
        return self.inner.evaluate(archs)


class Other(Noted):
    name = "other"


class Errors:
    """Errors of three blocks, which are measured one after the other."""

    name, unit, direction, fidelity = "errors", "NSR", "min", "proxy"

    def __init__(self, context, factor=1.0):
        self.space, self.factor, self.records, self.tables = context.space, factor, None, {}

    def remember_in(self, records):
        self.records = records

    def table(self, block):
        if block not in self.tables:
            key = f"block {block}"
            if self.records is None or key not in self.records:
                note(key)
                width = np.array([9.1, 3.3, 0.0])[:, None] / (block + 1)
                found = width + 4.0 ** -np.array([2, 4, 8]) / 3
                if self.records is not None:
                    self.records.add(key, {"errors": found.tolist()})
                self.tables[block] = found
            else:
                self.tables[block] = np.array(self.records[key]["errors"])
        return self.factor * self.tables[block]

    def terms(self):
        return [(f"blocks.{i}.width", f"blocks.{i}.bits") for i in range(3)]

    def evaluate(self, archs):
        return np.array([
            sum(
                self.table(i)[[32, 64, 128].index(a[w]), [2, 4, 8].index(a[b])]
                for i, (w, b) in enumerate(self.terms())
            )
            for a in archs
        ])

    def matrices(self):
        return [
            {"name": f"blocks.{i}", "genes": list(genes),
             "options": [[32, 64, 128], [2, 4, 8]], "errors": self.table(i).tolist()}
            for i, genes in enumerate(self.terms())
        ]

    def rescaled(self, factor, *, unit, against):
        other = Errors.__new__(Errors)
        other.__dict__ |= self.__dict__ | {"factor": factor, "unit": unit}
        return other

    def save(self, path):
        Path(path).write_text(f"{self.factor!r} {self.unit}")
'''


def write_plugin(folder: Path) -> Path:
    """The plug-in in a folder of its own."""
    folder.mkdir()
    path = folder / "dying.py"
    path.write_text(PLUGIN)
    return path


def asked(plugin: Path) -> list[str]:
    """What its cost models were asked about so far."""
    path = plugin.with_name("asked.txt")
    return path.read_text().splitlines() if path.exists() else []


def run(module: Any, arguments: list[str]) -> dict[str, Any]:
    """Run a command of `hwnas study` in this process; returns its JSON."""
    app = typer.Typer()
    module.add_to(app)
    done = CliRunner().invoke(app, [*arguments, "--json", "--quiet"])
    assert done.exit_code == 0, (done.output, done.exception)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def kill_at(plugin: Path, name: str, arguments: list[str], out: Path, lines: int) -> bytes:
    """Run `hwnas study NAME` until it dies by `kill -9` with so many lines kept; returns these.

    A line is then torn, as a kill in the middle of a write leaves it.
    """
    log, dies = out / "measurements.jsonl", plugin.with_name("dies.txt")
    dies.write_text(f"{log} {lines}")
    command = [HWNAS, "study", name, *arguments, "--quiet", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=out.parent)
    dies.unlink()
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = log.read_bytes()
    assert kept.count(b"\n") >= lines
    with log.open("ab") as file:
        file.write(b'{"key": "value/torn')
    return kept


def take_up(
    module: Any, plugin: Path, arguments: list[str], out: Path, kept: bytes
) -> tuple[dict[str, Any], list[str]]:
    """Resume a study; returns its JSON and what was asked for in the second half."""
    before = len(asked(plugin))
    found = run(module, [*arguments, "--out", str(out), "--resume"])
    assert (out / "measurements.jsonl").read_bytes().startswith(kept)
    return found, asked(plugin)[before:]


def without_seconds(found: Any) -> Any:
    """JSON without what no two runs have alike: times, and words that tell them."""
    if isinstance(found, dict):
        return {k: without_seconds(v) for k, v in found.items() if k != "seconds"}
    if isinstance(found, list):
        return [without_seconds(value) for value in found]
    return found
