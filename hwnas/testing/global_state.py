"""What a plug-in must leave as it found it: random states, folder, environment, weights."""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["changed_weights", "changes"]


def changes(action: Callable[[], object]) -> list[str]:
    """Run `action` and name every part of the global state that it changed.

    The random states are moved on first, because seeding twice with one number changes nothing the
    second time; afterwards they are what they were.
    """
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - what we watch
    try:
        random.random()
        np.random.random()  # noqa: NPY002
        before = _snapshot()
        action()
        after = _snapshot()
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
    return [name for name, value in after.items() if name in before and before[name] != value]


def changed_weights(supernet: Any, action: Callable[[], object]) -> list[str]:
    """Run `action` and name the tensors of `supernet.state_dict()` that it changed."""
    before = _digests(supernet)
    action()
    after = _digests(supernet)
    return sorted(name for name in before | after if before.get(name) != after.get(name))


def _digests(supernet: Any) -> dict[str, str]:
    return {
        name: hashlib.sha256(tensor.detach().cpu().float().numpy().tobytes()).hexdigest()
        for name, tensor in supernet.state_dict().items()
    }


def _snapshot() -> dict[str, object]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    state: dict[str, object] = {
        "the random state of Python": random.getstate(),
        "the global random state of NumPy": (kind, np.asarray(keys).tobytes(), rest),
        "how NumPy treats floating-point errors": dict(np.geterr()),
        "the working directory": os.getcwd(),
        "the environment variables": dict(os.environ),
    }
    # Not imported: a plug-in that needs no torch must not pay for it here.
    torch = sys.modules.get("torch")
    if torch is not None:
        state |= {
            "the random state of torch": torch.get_rng_state().numpy().tobytes(),
            "whether torch records gradients": torch.is_grad_enabled(),
            "the default dtype of torch": torch.get_default_dtype(),
            "the number of threads of torch": torch.get_num_threads(),
        }
    return state
