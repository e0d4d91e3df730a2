"""JSON schemas of the YAML files that users write."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from hwnas.errors import ConfigError

__all__ = ["schema"]


def _search() -> dict[str, Any]:
    from hwnas.config import SearchConfig

    return SearchConfig.model_json_schema()


def _space() -> dict[str, Any]:
    from hwnas.space import yaml_schema

    return yaml_schema()


def _device() -> dict[str, Any]:
    from hwnas.device import schema as device_schema

    return device_schema()


_SCHEMAS = {"search": _search, "space": _space, "device": _device}


def schema(kind: str = "search") -> dict[str, Any]:
    """Return the JSON schema of a `search`, `space` or `device` file.

    Raises:
        ConfigError: `kind` is another word.
    """
    if kind not in _SCHEMAS:
        near = get_close_matches(kind, _SCHEMAS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f"no schema for {kind!r}; expected {', '.join(_SCHEMAS)}{hint}")
    return _SCHEMAS[kind]()
