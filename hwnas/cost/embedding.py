"""Supernets that embed images, for the cost models that look at embeddings."""

from __future__ import annotations

from typing import Any

from hwnas.cost.context import CostContext
from hwnas.errors import CostError

__all__ = ["require_embedding"]


def require_embedding(context: CostContext, *, by: str) -> Any:
    """Return the context's supernet, if it embeds images as `SupernetLike` says.

    Raises:
        CostError: there is none, or it only makes networks that are not trained yet.
    """
    supernet = context.require("supernet", by=by)
    if not callable(getattr(supernet, "embed", None)):
        raise CostError(
            f"{by}: {type(supernet).__name__} embeds no images, so there is no quality to measure "
            "before its networks are trained; take a proxy, such as zico_bc"
        )
    return supernet
