"""KD-QAT's ov-freeze: rows of the attention's weights that keep their quantized values.

Source: "Improving LLM Quantization-Aware Training by Knowledge Distillation" (arXiv 2403.18159),
of which a secondary summary was at hand: the output and value projections are the most fragile at
few bits, and stay at their quantized values while the rest adapts around them. When freezing
begins, and the rows of a fused qkv, are ours. The sets are an ablation: LoRA by habit adapts q and
v, ov-freeze forbids v.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from hwnas.adapters import AdaptedLinear
from hwnas.config.finetuning import FreezeConfig, FreezeSet
from hwnas.errors import ConfigError

__all__ = ["RowFreeze", "frozen_rows"]

_PARTS = "qkv"  # one above the other in a fused layer


def frozen_rows(path: str, layer: AdaptedLinear, chosen: FreezeSet) -> torch.Tensor | None:
    """The rows (O,) of a layer that a set freezes; None where it freezes none."""
    letters = "" if chosen == "none" else chosen
    name, rows = path.rpartition(".")[2], torch.zeros(layer.out_features, dtype=torch.bool)
    if name == "proj" and "o" in letters:
        return ~rows
    if name != "qkv" or layer.whole.parts != len(_PARTS):
        return None
    for block, part in zip(rows.chunk(len(_PARTS)), _PARTS, strict=True):
        block.fill_(part in letters)
    return rows if rows.any() else None


class RowFreeze:
    """Freezes rows of adapted layers, at once or later in training.

    From the start they are those of the base. Later they are what they are at that step, and
    `held`; so they are, too, where the base itself trains. Both are buffers of the layers, which
    checkpoints restore.
    """

    def __init__(
        self, layers: Mapping[str, AdaptedLinear], config: FreezeConfig, *, base_trains: bool
    ) -> None:
        """Raise ConfigError if no layer has such rows, or a branch would have to be held."""
        self._start, self._layers = config.start, []
        for path, layer in layers.items():
            rows = frozen_rows(path, layer, config.rows)
            if rows is None:
                continue
            if config.start and any(adapter.role == "branch" for adapter in layer.acting()):
                raise ConfigError(
                    f"freeze.start {config.start:g}: {path} has a branch, which is no weight that "
                    "could be held; freeze from the start (0), or take another adapter"
                )
            self._layers.append((layer, rows.to(layer.weight.device)))
            if config.start or base_trains:  # a buffer of the right shape, for checkpoints
                layer.freeze_rows(torch.zeros_like(rows), held=torch.zeros_like(layer.weight))
            else:
                layer.freeze_rows(rows)
        if config.rows != "none" and not self._layers:
            raise ConfigError(
                f"freeze.rows {config.rows}: no adapted layer is an attention's proj or fused qkv; "
                "adapt those, too, or freeze none"
            )

    @torch.no_grad()
    def advance(self, done: float) -> None:
        """Freeze what is due after the share `done` of the steps, once."""
        if done < self._start:
            return
        for layer, rows in self._layers:
            if layer.frozen is not None and not layer.frozen.any():
                layer.freeze_rows(rows, held=layer.effective_weight())
