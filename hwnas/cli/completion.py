"""Shell completion for names; it imports no plug-in, so that a tab answers at once."""

from __future__ import annotations

__all__ = ["complete_adapter", "complete_cost", "complete_device", "complete_space"]


def complete_device(incomplete: str) -> list[str]:
    """Device ids and aliases that begin with what was typed."""
    from hwnas.device import listing

    names = [name for row in listing() for name in (row.id, *row.aliases)]
    return sorted(name for name in names if name.startswith(incomplete))


def complete_adapter(incomplete: str) -> list[str]:
    """Registered adapters that begin with what was typed."""
    from hwnas.registry import adapters

    return [name for name in adapters.names() if name.startswith(incomplete)]


def complete_cost(incomplete: str) -> list[str]:
    """Registered cost models that begin with what was typed."""
    from hwnas.registry import cost_models

    return [name for name in cost_models.names() if name.startswith(incomplete)]


def complete_space(incomplete: str) -> list[str]:
    """Registered search spaces that begin with what was typed."""
    from hwnas.registry import search_spaces

    return [name for name in search_spaces.names() if name.startswith(incomplete)]
