"""From pydantic's findings to one message that lists them all."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from hwnas.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

__all__ = ["config_error", "read_yaml"]


def read_yaml(path: str | Path) -> dict[str, object]:
    """Read a YAML mapping with the safe loader.

    Raises:
        ConfigError: the file is missing, unreadable, not YAML, or not a mapping.
    """
    file = Path(path)
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        what = _described(content)
        raise ConfigError(f"{file} holds {what}; expected a mapping of keys to values")
    return content


def config_error(source: str, error: ValidationError, model: type[BaseModel]) -> ConfigError:
    """Describe every finding of `error`, one a line, with the nearest key for an unknown one."""
    rows = [_row(found["loc"], found["type"], found["msg"], model) for found in error.errors()]
    width = max(len(place) for place, _ in rows)
    lines = [f"  {place:<{width}}  {message}" for place, message in rows]
    noun = "problem" if len(rows) == 1 else "problems"
    return ConfigError("\n".join([f"{source}: {len(rows)} {noun}", *lines]))


def _row(
    location: tuple[int | str, ...], kind: str, message: str, model: type[BaseModel]
) -> tuple[str, str]:
    place = ".".join(str(part) for part in location) or "(whole file)"
    if kind == "union_tag_not_found":
        return place, "needs the key 'kind', which says what it is; `hwnas schema` shows the forms"
    if kind != "extra_forbidden":
        return place, message
    known = list(model.model_fields) if len(location) == 1 else _known_keys(model)
    near = get_close_matches(str(location[-1]), known, n=1)
    return place, "unknown key" + (f"; did you mean {near[0]}?" if near else "")


def _known_keys(model: type[BaseModel]) -> list[str]:
    """Every field name in the schema of `model`, nested models included."""
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for part in parts for key in part.get("properties", {})})


def _described(content: object) -> str:
    return "nothing" if content is None else f"a {type(content).__name__}"
