"""Layers as a struct of arrays: every analytic cost is one vector expression over it."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from hwnas.workload.layers import FLOAT_BITS, KINDS, LayerSpec, Workload

Int = NDArray[np.int64]
Float = NDArray[np.float64]

_COUNTS = (
    "macs", "weight_elems", "in_elems", "out_elems", "extra_in_elems", "w_bits", "a_bits",
    "out_bits", "scales", "bias_elems", "element_ops", "held_bits",
)  # fmt: skip
_counts_of = operator.attrgetter(*_COUNTS)
_CODES = {kind: code for code, kind in enumerate(KINDS)}


@dataclass(frozen=True, slots=True, eq=False)
class LayerTable:
    """Columns of `n` layers; each array has shape (n,), and its meaning is `LayerSpec`'s.

    `kind` holds positions in `KINDS`.
    """

    kind: NDArray[np.int8]
    per_prompt: NDArray[np.bool_]
    macs: Int
    weight_elems: Int
    in_elems: Int
    out_elems: Int
    extra_in_elems: Int
    w_bits: Int
    a_bits: Int
    out_bits: Int
    scales: Int
    bias_elems: Int
    element_ops: Int
    held_bits: Int

    @classmethod
    def of(cls, layers: Sequence[LayerSpec]) -> Self:
        """Tabulate layers."""
        rows = np.array([_counts_of(layer) for layer in layers], np.int64)
        columns = np.ascontiguousarray(rows.reshape(len(layers), len(_COUNTS)).T)
        return cls(
            np.array([_CODES[layer.kind] for layer in layers], np.int8),
            np.array([layer.per_prompt for layer in layers], np.bool_),
            *columns,
        )

    def __len__(self) -> int:
        return len(self.kind)

    def rows(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the layers where `chosen` (n,) holds."""
        return type(self)(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def is_kind(self, *kinds: str) -> NDArray[np.bool_]:
        """Say which layers are of one of these kinds, shape (n,)."""
        return np.isin(self.kind, [_CODES[kind] for kind in kinds])

    def runs(self, prompts: int) -> Int:
        """How often each layer runs for one image with `prompts` prompts, shape (n,)."""
        return np.where(self.per_prompt, prompts, 1)

    def bit_operations(self) -> Float:
        """MACs x bits of one operand x bits of the other, shape (n,)."""
        out: Float = self.macs.astype(np.float64) * self.w_bits * self.a_bits
        return out

    def weight_bytes(self) -> Float:
        """Bytes of the packed parameters of each layer, shape (n,).

        Weights are packed to `w_bits` and padded to a whole byte a layer; biases and scales take
        `FLOAT_BITS` each.
        """
        packed = -(-self.weight_elems * self.w_bits // 8)
        return (packed + (self.scales + self.bias_elems) * FLOAT_BITS // 8).astype(np.float64)

    def live_bytes(self) -> Float:
        """Bytes of activations alive while each layer runs, shape (n,): read, written, held."""
        bits: Int = (
            self.in_elems * self.a_bits
            + self.extra_in_elems * self.w_bits
            + self.out_elems * self.out_bits
            + self.held_bits
        )
        return bits / 8.0


@dataclass(frozen=True, slots=True, eq=False)
class WorkloadBatch:
    """The layers of many workloads end to end; workload i owns rows offsets[i] to offsets[i+1]."""

    table: LayerTable
    offsets: Int

    @classmethod
    def of(cls, workloads: Iterable[Workload | Sequence[LayerSpec]]) -> Self:
        """Concatenate workloads, or plain sequences of layers; one may be empty."""
        parts = [w.layers if isinstance(w, Workload) else tuple(w) for w in workloads]
        offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
        return cls(LayerTable.of([layer for part in parts for layer in part]), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sums(self, values: Float) -> Float:
        """Add `values` (rows, k) within each workload, shape (n, k); an empty one gives 0."""
        return self._reduce(np.add, values)

    def maxima(self, values: Float) -> Float:
        """Take the largest of `values` (rows, k) in each workload, shape (n, k); empty gives 0."""
        return self._reduce(np.maximum, values)

    def _reduce(self, ufunc: np.ufunc, values: Float) -> Float:
        out = np.zeros((len(self), values.shape[1]))
        # reduceat returns the next row for an empty segment, so those are left out
        filled = np.diff(self.offsets) > 0
        if filled.any():
            out[filled] = ufunc.reduceat(values, self.offsets[:-1][filled], axis=0)
        return out
