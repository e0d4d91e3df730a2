"""What can be trained: adapters by name, side networks, and the model's own weights."""

from __future__ import annotations

from hwnas.adapters.plugin import resolve_kind
from hwnas.config.finetuning import REFERENCES, SIDE_NETWORKS
from hwnas.errors import PluginError

__all__ = ["check_method"]


def check_method(name: str) -> None:
    """Raises PluginError where nothing answers to a method's name, with all names that do."""
    if name in (*REFERENCES, *SIDE_NETWORKS):
        return
    try:
        resolve_kind(name)
    except PluginError as error:
        others = f"{', '.join(SIDE_NETWORKS)} (side networks), {', '.join(REFERENCES)}"
        raise PluginError(f"{error}. Methods that are no adapters: {others}") from error
