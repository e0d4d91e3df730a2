"""Everything wrong with a device file, found in one go."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from hwnas.device.consistency import inconsistencies
from hwnas.device.fields import DeviceSpec
from hwnas.device.reading import DeviceFile, Problem, repeated_keys

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["validated", "validated_data"]

Location = tuple[int | str, ...]


def validated(file: DeviceFile) -> tuple[DeviceSpec | None, tuple[Problem, ...]]:
    """Return what a file describes, or None and all of its problems."""
    spec, rows = _checked(file.data)
    problems = [Problem(_place(where), text, file.line(where)) for where, text in rows]
    found = (*repeated_keys(file), *problems)
    return (None if found else spec), found


def validated_data(data: Mapping[str, object]) -> tuple[DeviceSpec | None, tuple[Problem, ...]]:
    """Do the same for data that came from elsewhere and has no lines."""
    spec, rows = _checked(data)
    return (None if rows else spec), tuple(Problem(_place(where), text) for where, text in rows)


def _checked(data: Mapping[str, object]) -> tuple[DeviceSpec | None, list[tuple[Location, str]]]:
    rows = inconsistencies(data)
    try:
        return DeviceSpec.model_validate(data), rows
    except ValidationError as error:
        return None, [*(_row(detail) for detail in error.errors()), *rows]


def _place(location: Location) -> str:
    return ".".join(str(part) for part in location) or "(whole file)"


def _row(detail: ErrorDetails) -> tuple[Location, str]:
    """Turn one finding of pydantic's into a location and a sentence."""
    location = tuple(part for part in detail["loc"] if part != "[key]")
    if detail["type"] == "extra_forbidden":
        return location, "unknown key" + _nearest(location[-1], _known_keys(location[:-1]))
    if detail["type"] == "missing":
        return location, "missing; the file must give it"
    if detail["type"] == "model_type" and _schema_of(location).get("title") == "Figure":
        return location, (
            f"{detail['input']!r} is not a figure; write {{value: 1.5, status: recalled, "
            "source: where it is from}, or a bare number"
        )
    if detail["type"] == "literal_error":
        expected = str(detail["ctx"]["expected"])
        known = [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]
        return location, f"{detail['input']!r} is unknown{_nearest(detail['input'], known)} " + (
            f"Expected {', '.join(known)}"
        )
    return location, f"{detail['msg']}, not {_shortened(detail['input'])}"


def _nearest(name: object, known: list[str]) -> str:
    near = get_close_matches(str(name), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ";"


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _known_keys(location: Location) -> list[str]:
    return sorted(_schema_of(location).get("properties", {}))


def _schema_of(location: Location) -> Mapping[str, Any]:
    """Follow `location` through the JSON schema to the mapping that it names."""
    root = DeviceSpec.model_json_schema()
    node = _object_form(root, root)
    for part in location:
        inside = node.get("properties", {}).get(part) if isinstance(part, str) else None
        by_pattern = next(iter(node.get("patternProperties", {}).values()), None)
        step = inside or by_pattern or node.get("items") or node.get("additionalProperties")
        if not isinstance(step, dict):
            return {}
        node = _object_form(step, root)
    return node


def _object_form(node: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Resolve references and, of alternatives, take the one that has keys or items."""
    while "$ref" in node:
        node = root["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    for option in node.get("anyOf", ()):
        inner = _object_form(option, root)
        if inner.keys() & {"properties", "items", "additionalProperties", "patternProperties"}:
            return inner
    return node
