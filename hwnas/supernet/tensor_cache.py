"""Prepared tensors of past subnets, kept within a number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import torch

__all__ = ["TensorCache"]

T = TypeVar("T")


class TensorCache:
    """A mapping that forgets the least recently used entries beyond `max_bytes`; for one thread."""

    def __init__(self, *, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The entry of `key`, made on first use; one that alone exceeds the limit is not kept."""
        if key in self._entries:
            self._entries.move_to_end(key)
            found: T = self._entries[key][0]
            return found
        value = make()
        size = _bytes_of(value)
        self._entries[key] = value, size
        self._bytes += size
        while self._bytes > self.max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self._bytes -= freed
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._bytes = 0


def _bytes_of(value: object) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, tuple):
        return sum(_bytes_of(item) for item in value)
    if is_dataclass(value):
        return sum(_bytes_of(getattr(value, field.name)) for field in fields(value))
    return 0
