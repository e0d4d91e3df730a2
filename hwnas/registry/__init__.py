"""The one place that loads plug-ins: by entry point, by module path or by file."""

from __future__ import annotations

from hwnas.registry.registry import Listing, Registry, adapters, cost_models, search_spaces

__all__ = ["Listing", "Registry", "adapters", "cost_models", "search_spaces"]
