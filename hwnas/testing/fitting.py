"""The promise of a cost model that learns: what was learned survives saving and loading."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hwnas.testing.cost_trial import CostTrial

__all__ = ["saved_is_loaded"]

# Formats whose reading can run code.
_UNSAFE = {".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth"}


def saved_is_loaded(trial: CostTrial) -> Iterator[str]:
    """Yield where a loaded model differs from the saved one, or is saved in an unsafe format."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trial.model.save(folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        if not files:
            yield "save writes no file"
        for path in files:
            if path.suffix in _UNSAFE:
                yield f"save writes {path.name}; expected JSON, safetensors or XGBoost's own JSON"
        loaded = type(trial.model).load(folder, trial.context)
        answer = np.asarray(loaded.evaluate(trial.archs))
        if not np.array_equal(answer, trial.values):
            yield "the loaded model gives other values than the saved one; expected equal bits"
