"""Ways to exchange one adapter for another in weights that are deployed, to be compared.

A sparse adapter is written over a few entries, which are put back later. A low-rank one changes
every weight: it is added and subtracted, or added to a copy that is kept; integer codes have to be
computed anew from weights in floating point, or all of them are shipped. In place, one matrix
product per layer and direction, without temporary matrices where torch can do without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch

from hwnas.adapters.switching import AdapterSwitch, SparseWrite
from hwnas.quant.linear import integer_codes

__all__ = ["Exchange", "Recomputed", "Replaced", "SparselyWritten", "Subtracted", "SummedToCopy"]

Tensors = Mapping[str, torch.Tensor]
Pairs = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
"""Of each layer B (O, r), with alpha / r in it, and A (r, I)."""


class Exchange(Protocol):
    """One of several adapters at a time in tensors, which are changed in place.

    `shipped_bytes` are those of one adapter, `written_bytes` those of the tensors that it changes,
    `kept_bytes` those that the device holds beside tensors and adapters to be able to go back.
    """

    way: str
    shipped_bytes: int
    written_bytes: int
    kept_bytes: int

    def enter(self, name: str) -> None:
        """Put an adapter in; the present one is taken out."""
        ...

    def leave(self) -> None:
        """Take the present adapter out."""
        ...


class SparselyWritten:
    """A few entries, and the old ones put back, by `AdapterSwitch`."""

    way = "sparse writes"

    def __init__(self, tensors: Tensors, writes: Mapping[str, Mapping[str, SparseWrite]]) -> None:
        self._switch, self._writes = AdapterSwitch(tensors), writes
        some = max(writes.values(), key=lambda own: sum(w.stored_bytes for w in own.values()))
        self.shipped_bytes = self.kept_bytes = sum(w.stored_bytes for w in some.values())
        self.written_bytes = sum(w.values.nbytes for w in some.values())

    def enter(self, name: str) -> None:
        self._switch.swap_in(name, self._writes[name])

    def leave(self) -> None:
        self._switch.swap_out()


class Subtracted:
    """W += B A, and later W -= B A, which leaves what rounding has done."""

    way = "add, subtract"
    kept_bytes = 0

    def __init__(self, tensors: Tensors, pairs: Mapping[str, Pairs]) -> None:
        self._tensors, self._pairs = tensors, pairs
        self._present: str | None = None
        self.shipped_bytes, self.written_bytes = _pair_bytes(pairs), _bytes(tensors)

    @torch.no_grad()
    def enter(self, name: str) -> None:
        self.leave()
        self._add(name, 1.0)
        self._present = name

    @torch.no_grad()
    def leave(self) -> None:
        if self._present is not None:
            self._add(self._present, -1.0)
        self._present = None

    def _add(self, name: str, sign: float) -> None:
        for path, (b, a) in self._pairs[name].items():
            self._tensors[path].addmm_(b, a, alpha=sign)


class SummedToCopy:
    """W = W0 + B A from a copy W0 that is kept, and later W = W0."""

    way = "add to a copy"

    def __init__(self, tensors: Tensors, base: Tensors, pairs: Mapping[str, Pairs]) -> None:
        self._tensors, self._base, self._pairs = tensors, base, pairs
        self.shipped_bytes, self.written_bytes = _pair_bytes(pairs), _bytes(tensors)
        self.kept_bytes = _bytes(base)

    @torch.no_grad()
    def enter(self, name: str) -> None:
        for path, (b, a) in self._pairs[name].items():
            torch.addmm(self._base[path], b, a, out=self._tensors[path])

    @torch.no_grad()
    def leave(self) -> None:
        for path, tensor in self._tensors.items():
            tensor.copy_(self._base[path])


class Recomputed:
    """Codes (O, I) int8 of W0 + B A on the grids `scales` (O,), from W0 that is kept."""

    way = "codes recomputed"

    def __init__(
        self, codes: Tensors, base: Tensors, pairs: Mapping[str, Pairs], scales: Tensors, bits: int
    ) -> None:
        self._codes, self._base, self._pairs = codes, base, pairs
        self._scales, self._bits = scales, bits
        self.shipped_bytes, self.written_bytes = _pair_bytes(pairs), _bytes(codes)
        self.kept_bytes = _bytes(base)

    @torch.no_grad()
    def enter(self, name: str) -> None:
        for path, (b, a) in self._pairs[name].items():
            self._write(path, torch.addmm(self._base[path], b, a))

    @torch.no_grad()
    def leave(self) -> None:
        for path, weight in self._base.items():
            self._write(path, weight)

    def _write(self, path: str, weight: torch.Tensor) -> None:
        codes, _ = integer_codes(weight, self._scales[path], self._bits)
        self._codes[path].copy_(codes)


class Replaced:
    """All weights or codes of the merged model, which are shipped for each adapter."""

    way = "all copied"

    def __init__(self, tensors: Tensors, base: Tensors, merged: Mapping[str, Tensors]) -> None:
        self._tensors, self._base, self._merged = tensors, base, merged
        self.shipped_bytes = self.written_bytes = self.kept_bytes = _bytes(tensors)

    @torch.no_grad()
    def enter(self, name: str) -> None:
        self._copy(self._merged[name])

    @torch.no_grad()
    def leave(self) -> None:
        self._copy(self._base)

    def _copy(self, source: Tensors) -> None:
        for path, tensor in self._tensors.items():
            tensor.copy_(source[path])


def _bytes(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _pair_bytes(pairs: Mapping[str, Pairs]) -> int:
    some = next(iter(pairs.values()))
    return sum(b.nbytes + a.nbytes for b, a in some.values())
