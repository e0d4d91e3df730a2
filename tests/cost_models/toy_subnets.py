"""Evaluated subnets of the toy space, whose quality has a closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cost_models.toy_quality import ToyQuality
from hwnas.cost import CostContext
from hwnas.records import EvaluatedSubnet
from hwnas.space import Archs, SearchSpace


def true_quality(space: SearchSpace, archs: Archs) -> NDArray[np.float64]:
    return ToyQuality(CostContext(space)).evaluate(archs)


def write_subnets(path: Path, space: SearchSpace, n: int, *, seed: int = 7, **more: Any) -> Path:
    """Write n draws from `space`, less those drawn twice, on box prompts unless `more` says."""
    archs = space.sample(np.random.default_rng(seed), n).unique()
    rows = [
        {"arch_id": arch.id, "genes": arch.genes, "iou": float(y), "prompt": "box", **more}
        for arch, y in zip(archs, true_quality(space, archs), strict=True)
    ]
    path.write_text("".join(EvaluatedSubnet(**row).to_json() + "\n" for row in rows))
    return path
