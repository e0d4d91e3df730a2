"""What autograd keeps between a forward and its backward, counted by torch's hooks."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

import torch

__all__ = ["SavedBytes"]


class SavedBytes:
    """Within its block: what autograd keeps for backward, `peak` the most at one moment.

    Each piece of memory counts once, however often it is kept; `without` are tensors that are
    there in any case, such as weights.
    """

    def __init__(self, without: Iterable[torch.Tensor] = ()) -> None:
        self._without = {t.untyped_storage().data_ptr() for t in without}
        self._kept: dict[int, int] = {}
        self._bytes, self.peak = 0, 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept.tensor)

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._hooks.__exit__(kind, error, trace)

    def _pack(self, tensor: torch.Tensor) -> _Kept:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address not in self._without:
            self._kept[address] = self._kept.get(address, 0) + 1
            if self._kept[address] == 1:
                self._bytes += size
                self.peak = max(self.peak, self._bytes)
        return _Kept(tensor, self)

    def released(self, tensor: torch.Tensor) -> None:
        """Autograd has let go of a tensor."""
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address in self._kept:
            self._kept[address] -= 1
            if not self._kept[address]:
                del self._kept[address]
                self._bytes -= storage.nbytes()


class _Kept:
    """A kept tensor that tells when it is let go."""

    def __init__(self, tensor: torch.Tensor, meter: SavedBytes) -> None:
        self.tensor, self._meter = tensor, meter

    def __del__(self) -> None:
        self._meter.released(self.tensor)
