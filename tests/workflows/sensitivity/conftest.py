"""A plug-in of made-up errors of the toy space, and a quality that follows them."""

from __future__ import annotations

from pathlib import Path

import pytest

PLUGIN = """
import numpy as np

class Errors:
    name, unit, direction, fidelity = "errors", "NSR", "min", "proxy"

    def __init__(self, context, factor=1.0):
        self.space, self.factor = context.space, factor
        self.note = "made up"

    def table(self, block):
        width = np.array([9.0, 3.0, 0.0])[:, None] / (block + 1)
        return self.factor * (width + 4.0 ** -np.array([2, 4, 8]))

    def terms(self):
        return [(f"blocks.{i}.width", f"blocks.{i}.bits") for i in range(3)]

    def evaluate(self, archs):
        return np.array([self.of(arch.genes) for arch in archs])

    def of(self, genes):
        total = 0.0
        for i, (w, b) in enumerate(self.terms()):
            if w in genes:
                at = [32, 64, 128].index(genes[w]), [2, 4, 8].index(genes[b])
                total += self.table(i)[at]
        return total

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
        path.write_text(f"{self.factor} {self.unit}")

class Quality:
    name, unit, direction = "quality", "points", "max"

    def __init__(self, context, loss=0.2):
        self.errors, self.loss = Errors(context), loss

    def evaluate(self, archs):
        return 80.0 - self.loss * self.errors.evaluate(archs)
"""


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    path = tmp_path / "my_errors.py"
    path.write_text(PLUGIN)
    return str(path)
