"""Building a cost model from names, here and in another process.

One-file plug-ins cannot be pickled into another process; a worker is given their spec instead, and
must come to the same numbers.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostContext, CostModel, Fittable, build
from hwnas.device import find
from hwnas.space import Archs, load_space
from hwnas.workflows.context import make_context

__all__ = ["Workplace", "answer_request", "values_elsewhere"]

_CODE = "from hwnas.testing.workplace import answer_request; answer_request()"


@dataclass(frozen=True)
class Workplace:
    """Names of everything that a cost model is built from; plain JSON."""

    cost: str
    space: str
    device: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def context(self) -> CostContext:
        """Load the space and the device."""
        device = None if self.device is None else find(self.device)
        return make_context(load_space(self.space), device=device)

    def model(self, context: CostContext) -> CostModel:
        """Build the cost model."""
        return build(self.cost, context, **self.options)


def values_elsewhere(
    workplace: Workplace, archs: Archs, *, fitted: Path | None = None
) -> NDArray[np.float64]:
    """Return what a fresh process answers about `archs`, shape (n,).

    Args:
        workplace: what it builds.
        archs: sent as JSON.
        fitted: folder that a `Fittable` model was saved to.

    Raises:
        RuntimeError: the process failed; the message is the last line that it wrote.
    """
    request = {
        "workplace": asdict(workplace),
        "archs": [arch.to_json() for arch in archs],
        "fitted": None if fitted is None else str(fitted),
    }
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        input=json.dumps(request),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no message"])[-1])
    return np.array(json.loads(done.stdout.splitlines()[-1]), dtype=np.float64)


def answer_request() -> None:
    """Read a request from the standard input, write the values to the standard output."""
    request = json.load(sys.stdin)
    workplace = Workplace(**request["workplace"])
    context = workplace.context()
    model = workplace.model(context)
    if request["fitted"] is not None and isinstance(model, Fittable):
        model = type(model).load(Path(request["fitted"]), context)
    archs = [context.space.arch_from_json(text) for text in request["archs"]]
    # A JSON number is written with all of its digits, so no bit is lost on the way.
    sys.stdout.write("\n" + json.dumps(np.asarray(model.evaluate(archs)).tolist()) + "\n")
