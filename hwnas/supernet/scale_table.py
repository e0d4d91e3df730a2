"""Scales and offsets of every quantizer of an encoder, kept apart from the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from hwnas.errors import CheckpointError, ConfigError
from hwnas.quant.batch_range import NEUTRAL, BatchRange, normalized_range
from hwnas.quant.bits import unsigned_codes
from hwnas.quant.lsq import positive

__all__ = ["ScaleTable", "attention_key", "input_key", "weight_key"]


Activation = Literal["learned", "batch"]
_ACTIVATIONS = ("learned", "batch")
_ADVICE = "`hwnas prepare CHECKPOINT --data DIR --out FILE` calibrates those of its space"
_UNIT, _RANGE = "unit:", "range"


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

    Names are those of `weight_key`, `input_key` and `attention_key`. Weight scales are (O,), or
    (1,) for one scale a tensor. Raises CheckpointError for one that range calibration has not
    filled.

    Args:
        tensors: Values by name, as `tensors()` gives them.
        relative: Keep parameters as multiples of the given scales, so that one learning rate fits
            the scale of a softmax (1e-4) and that of a query (0.1); values are the same up to
            rounding.
        activation: `learned` scales and offsets of inputs (LSQ+), or `batch`: normalized by the
            extremes of the batch, of which a running mean serves evaluation (`BatchRange`). Pairs
            of scale and offset among `tensors` are turned into that form.
        centered: Quantize weights of 2 bits to the levels -1.5, -0.5, 0.5, 1.5 of the scale.
        per_tensor: Say to range calibration that weights want one scale a tensor.
        advice: What to do where a scale is missing, in words.
    """

    def __init__(
        self,
        tensors: Mapping[str, torch.Tensor],
        *,
        relative: bool = False,
        activation: Activation = "learned",
        centered: bool = False,
        per_tensor: bool = False,
        advice: str = _ADVICE,
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise ConfigError(f"activation {activation!r} is none of {', '.join(_ACTIVATIONS)}")
        self.relative, self.activation = relative, activation
        self.centered, self.per_tensor, self.advice = centered, per_tensor, advice
        if activation == "batch":
            tensors = _by_batch(tensors)
        for name, value in tensors.items():
            own = value.detach().clone()
            if _is(name, _RANGE):
                self.register_buffer(_key(name), own)
                continue
            if relative:
                unit = _unit(name, own, activation)
                self.register_buffer(_UNIT + _key(name), unit)
                own /= unit
            self.register_parameter(_key(name), nn.Parameter(own))

    @property
    def options(self) -> dict[str, Any]:
        """What another table of the same kind is constructed with, beside its tensors."""
        return {"relative": self.relative, "activation": self.activation,
                "centered": self.centered, "per_tensor": self.per_tensor}  # fmt: skip

    def input_range(self, layer: str, bits: int) -> torch.Tensor | BatchRange:
        """Scale and offset (2,) of a layer's input in training, or how to read them off it."""
        learned = self[input_key(layer, bits)]
        if self.activation == "learned":
            return learned
        return BatchRange(learned, self._running(layer, bits), bits)

    def input_grid(self, layer: str, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and offset of a layer's input in evaluation."""
        learned = self[input_key(layer, bits)]
        if self.activation == "learned":
            scale, offset = learned
            return scale, offset
        return normalized_range(self._running(layer, bits), learned, bits)

    def grid_is_centered(self, bits: int) -> bool:
        """Whether weights of these bits use the centered grid."""
        return self.centered and bits == 2

    def _running(self, layer: str, bits: int) -> torch.Tensor:
        return self.get_buffer(_key(f"{layer}.{_RANGE}.{bits}"))

    def __getitem__(self, name: str) -> torch.Tensor:
        found = self._parameters.get(_key(name))
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
                f"{self.advice}"
            )
        unit = self._buffers.get(_UNIT + _key(name))
        return found if unit is None else found * unit

    def names(self) -> list[str]:
        """All names, sorted."""
        ranges = (name for name in self._buffers if not name.startswith(_UNIT))
        return sorted(name.replace("/", ".") for name in (*self._parameters, *ranges))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Detached copies of all entries by name, as `ScaleTable` takes them."""
        return {
            name: (self.get_buffer(_key(name)) if _is(name, _RANGE) else self[name])
            .detach()
            .clone()
            for name in self.names()
        }


def _key(name: str) -> str:
    return name.replace(".", "/")  # torch forbids dots in the names of parameters


def _is(name: str, kind: str) -> bool:
    return name.rpartition(".")[0].endswith(f".{kind}")


def _unit(name: str, value: torch.Tensor, activation: Activation) -> torch.Tensor:
    """What a value is counted in: itself; for a pair of scale and offset, the scale."""
    if not _is(name, "input"):
        return positive(value).clone()
    if activation == "batch":
        return torch.ones_like(value)
    return positive(value[:1].expand_as(value)).clone()


def _by_batch(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Scales and offsets of inputs as the extremes that they stand for, and neutral a and o."""
    found = dict(tensors)
    for name, value in tensors.items():
        layer, bits = name.rpartition(".")[0].removesuffix(".input"), name.rpartition(".")[2]
        running = f"{layer}.{_RANGE}.{bits}"
        if _is(name, "input") and running not in tensors:
            scale, offset = value
            high = offset + unsigned_codes(int(bits))[1] * positive(scale)
            found[name], found[running] = value.new_tensor(NEUTRAL), torch.stack([offset, high])
    return found
