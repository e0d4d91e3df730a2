"""`--set KEY=VALUE`: replace keys of what was read from a YAML file."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hwnas.errors import ConfigError

__all__ = ["with_changes"]


def with_changes(
    content: Mapping[str, Any], changes: Mapping[str, object], *, source: str
) -> dict[str, Any]:
    """A copy of `content` with `changes`, whose keys reach inside with dots (`adapter.kind`).

    Raises:
        ConfigError: a key reaches into something that is no mapping; `source` names the file.
    """
    merged = copy.deepcopy(dict(content))
    for key, value in changes.items():
        *outer, last = key.split(".")
        place = merged
        for name in outer:
            if place.get(name) is None:
                place[name] = {}
            inner = place[name]
            if not isinstance(inner, dict):
                raise ConfigError(f"{source}: {key} reaches into {name}, which is {inner!r}")
            place = inner
        place[last] = value
    return merged
