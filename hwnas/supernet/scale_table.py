"""Scales and offsets of every quantizer of an encoder, kept apart from the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from hwnas.errors import CheckpointError

__all__ = ["ScaleTable", "attention_key", "input_key", "weight_key"]


def weight_key(layer: str, bits: int) -> str:
    """Name of the weight scales (O,) of a layer such as `blocks.3.qkv`."""
    return f"{layer}.weight.{bits}"


def input_key(layer: str, bits: int) -> str:
    """Name of the pair (2,) of scale and offset of a layer's input."""
    return f"{layer}.input.{bits}"


def attention_key(block: int, bits: int) -> str:
    """Name of the scales (4,) of queries, keys, values and softmax output of a block."""
    return f"blocks.{block}.attn.{bits}"


class ScaleTable(nn.Module):
    """Trainable scales by name; one set for each (layer, bit-width), shared by all subnets.

    Names are those of `weight_key`, `input_key` and `attention_key`. Raises CheckpointError for
    one that range calibration has not filled.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        for name, value in tensors.items():
            # torch forbids dots in parameter names
            self.register_parameter(name.replace(".", "/"), nn.Parameter(value.detach().clone()))

    def __getitem__(self, name: str) -> torch.Tensor:
        found = self._parameters.get(name.replace(".", "/"))
        if found is None:
            layer, _, bits = name.rpartition(".")
            calibrated = (
                ", ".join(
                    sorted(n.rpartition(".")[2] for n in self.names() if n.startswith(f"{layer}."))
                )
                or "no bit-width"
            )
            raise CheckpointError(
                f"{layer} at {bits} bits has no scale (there is one for {calibrated}); "
                "calibrate the ranges for the bit-widths of the search space"
            )
        return found

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(name.replace("/", ".") for name in self._parameters)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Detached copies of all entries by name, as `ScaleTable` takes them."""
        return {name: self[name].detach().clone() for name in self.names()}
