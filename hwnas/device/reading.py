"""Device files as plain data with line numbers; no pydantic, so that listing them is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml
from yaml import MappingNode, Node, SequenceNode

from hwnas.errors import ConfigError, DeviceError

__all__ = [
    "DeviceFile",
    "Problem",
    "config_error",
    "number_of",
    "read_device_file",
    "repeated_keys",
]

Location = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a device file: where (`modes.15w.power_w`), and what."""

    where: str
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceFile:
    """The mapping of a device file, and the YAML nodes that know where its keys stand."""

    path: Path
    data: dict[str, object]
    node: Node

    def line(self, location: Location) -> int | None:
        """Return the line of the deepest part of `location` that the file contains."""
        node, line = self.node, None
        for part in location:
            if isinstance(node, MappingNode):
                found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif (
                isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value)
            ):
                node = node.value[part]
                line = node.start_mark.line + 1
            else:
                break
        return line


def read_device_file(path: Path) -> DeviceFile:
    """Read one file with the safe loader.

    Raises:
        DeviceError: it does not exist or cannot be read.
        ConfigError: it is not YAML, or not a mapping.
    """
    try:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        data = None if node is None else loader.construct_document(node)
    except OSError as error:
        raise DeviceError(
            f"cannot read the device file {path}: {error.strerror}; check the path, or name a "
            "device of `hwnas devices list`"
        ) from error
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not valid YAML: {reason}") from error
    if node is None or not isinstance(data, dict):
        found = "nothing" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"{path} holds {found}; a device file is a mapping, `id: my-board` first")
    return DeviceFile(path, data, node)


def config_error(source: Path | str, problems: tuple[Problem, ...]) -> ConfigError:
    """Join `problems` into one message, one a line, in the order of the file."""
    ordered = sorted(problems, key=lambda p: (p.line is None, p.line or 1, p.where))
    width = max(len(p.where) for p in ordered)
    lines = [
        f"  {'line ' + str(p.line) if p.line else '':<9} {p.where:<{width}}  {p.message}"
        for p in ordered
    ]
    noun = "problem" if len(lines) == 1 else "problems"
    return ConfigError("\n".join([f"{source}: {len(lines)} {noun}", *lines]))


def number_of(value: object) -> float | None:
    """Return `value` as a number; None for anything else.

    YAML 1.1 reads `1e9` as text, because it has no point; people mean the number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def repeated_keys(file: DeviceFile) -> list[Problem]:
    """Find keys that one mapping holds twice; YAML readers keep the last without a word."""
    problems: list[Problem] = []
    pending: list[Node] = [file.node]
    visited: set[int] = set()
    while pending:
        node = pending.pop()
        if id(node) in visited:  # an anchor may contain itself
            continue
        visited.add(id(node))
        if isinstance(node, SequenceNode):
            pending.extend(node.value)
        elif isinstance(node, MappingNode):
            keys = set()
            for key, value in node.value:
                pending.append(value)
                if key.value in keys:
                    line = key.start_mark.line + 1
                    problems.append(Problem(str(key.value), "the key is given twice", line))
                if isinstance(key.value, str):
                    keys.add(key.value)
    return problems
