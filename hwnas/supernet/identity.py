"""A short name for the weights of a supernet, so that figures are never taken for another's."""

from __future__ import annotations

from typing import Any

from hwnas.supernet.supernet_file import hash_weights

__all__ = ["supernet_identity"]

_DIGITS = 16


def supernet_identity(supernet: Any) -> str | None:
    """First 16 hex digits of the sha256 over every tensor: weights, scales and adapters.

    It does not depend on the file that the supernet was read from. None where `supernet` is no
    module with tensors.
    """
    state = getattr(supernet, "state_dict", None)
    return hash_weights(state())[:_DIGITS] if callable(state) else None
