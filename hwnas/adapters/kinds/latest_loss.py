"""The loss term of an adapter's latest forward, until training asks for it."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["LatestLoss"]


class LatestLoss:
    """Holds one scalar with its graph; copies and pickles are empty, since graphs have neither."""

    def __init__(self) -> None:
        self._value: torch.Tensor | None = None

    def put(self, value: torch.Tensor) -> None:
        """Keep the term of this forward in the place of the one before."""
        self._value = value

    def take(self) -> torch.Tensor | None:
        """The latest term, once."""
        value, self._value = self._value, None
        return value

    def __getstate__(self) -> dict[str, Any]:
        return {"_value": None}
