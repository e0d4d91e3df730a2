"""Exports of trained NAS-LoRA cells, and what each of them loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch

from hwnas.adapters.contract import WeightAdapter
from hwnas.adapters.kinds.nas_lora.adapter import NasLoraAdapter
from hwnas.adapters.kinds.nas_lora.moments import CellMoments
from hwnas.errors import ConfigError

__all__ = ["FOLD_MODES", "cells", "fold_cells", "fold_residuals", "recorded"]

FOLD_MODES = ("anneal", "token", "lsq")
"""`anneal`: the centres of the kernels; `token`: only operations on one token; `lsq`: the closest
weight on the recorded tokens. What is not folded stays a branch, and loses nothing."""


def cells(adapters: Mapping[str, WeightAdapter]) -> dict[str, NasLoraAdapter]:
    """The NAS-LoRA adapters among those of `Attached.adapters(name)`, by layer."""
    return {path: a for path, a in adapters.items() if isinstance(a, NasLoraAdapter)}


@contextmanager
def recorded(adapters: Mapping[str, WeightAdapter]) -> Iterator[None]:
    """Record second moments of all that passes the cells within the block."""
    found = cells(adapters).values()
    for cell in found:
        cell.moments, cell.recording = CellMoments(), True
    try:
        yield
    finally:
        for cell in found:
            cell.recording = False


@torch.no_grad()
def fold_residuals(
    adapters: Mapping[str, WeightAdapter], run: Callable[[], object]
) -> dict[str, dict[str, float]]:
    """What each export of each cell would lose, 0 to 1, by layer and mode; nothing is changed.

    Args:
        adapters: `Attached.adapters(name)`, active and branches.
        run: Passes calibration images through the model.
    """
    found = {}
    with recorded(adapters):
        run()
        for path, cell in cells(adapters).items():
            assert cell.moments is not None
            modes = {mode: cell.moments.residual(cell.mixing(mode)) for mode in _modes(cell)}
            found[path] = {"branch": 0.0, **modes}
            cell.moments = None
    return found


@torch.no_grad()
def fold_cells(
    adapters: Mapping[str, WeightAdapter], run: Callable[[], object], *, mode: str = "lsq"
) -> dict[str, float]:
    """Put a fixed matrix in the place of each cell, after which `merge` works; the residuals.

    Raises:
        ConfigError: there is no such mode, or no cell that is still a branch.
    """
    if mode not in FOLD_MODES:
        raise ConfigError(f"mode {mode!r}: expected one of {', '.join(FOLD_MODES)}")
    left = {path: cell for path, cell in cells(adapters).items() if cell.role == "branch"}
    if not left:
        raise ConfigError("no NAS-LoRA cell is left to fold; merge the adapters as they are")
    if lost := [path for path, cell in left.items() if mode not in _modes(cell)]:
        raise ConfigError(f"{lost[0]}: a cell that is not linear has no {mode!r} fold; take 'lsq'")
    with recorded(left):
        run()
        return {path: cell.fold_to(mode) for path, cell in left.items()}


def _modes(cell: NasLoraAdapter) -> tuple[str, ...]:
    return FOLD_MODES if cell.cell.linear else ("token", "lsq")
