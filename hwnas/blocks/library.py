"""A library of blocks: what was trained, how it was trained, and what each block loses.

A folder has `settings.json`, `measurements.jsonl` with one line for each block, and the blocks'
weights under `weights/`. A packed library is one JSON file with the first two and no weights,
which is enough to score networks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from hwnas.errors import DataError
from hwnas.records.files import explained, read_packed_text, replace_text
from hwnas.records.lines import read_lines

__all__ = [
    "BlockRecord",
    "Library",
    "NetworkRecord",
    "read_library",
    "replaced_key",
    "trunk_key",
    "weights_path",
]

_SETTINGS, _LINES = "settings.json", "measurements.jsonl"
_BLOCK, _NETWORK, _REPLACED, _TRUNK = "block/", "network/", "replaced/", "trunk/"
_FORMAT = "hwnas-blocks-1"


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """One block of one slot, measured on held-out images.

    Attributes:
        slot: Number of the slot, from 0.
        block: Name of the option (`BlockOption.name`).
        nsr: Mean over images of the noise-to-signal ratio of its output.
        nsr_of_images: The ratio of each image.
        fisher_of_images: Squared first-order change of the task loss of each image; None where no
            gradient was to be had.
        params: Weights, biases and scales.
        macs: Multiply-accumulates of the slot for one image.
        steps: Steps of training, those of its shape included.
        seconds: Time of training and measuring, that of its shape left out.
    """

    slot: int
    block: str
    nsr: float
    nsr_of_images: tuple[float, ...]
    fisher_of_images: tuple[float, ...] | None
    params: int
    macs: int
    steps: int
    seconds: float

    @property
    def key(self) -> str:
        """Its key among the measurements."""
        return f"{_BLOCK}{self.slot}/{self.block}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read `to_dict` back; keys that are not known are left alone."""
        known = {f.name: content[f.name] for f in fields(cls)}
        fisher = known["fisher_of_images"]
        known["nsr_of_images"] = tuple(known["nsr_of_images"])
        known["fisher_of_images"] = None if fisher is None else tuple(fisher)
        return cls(**known)


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """A network of stitched blocks that was run.

    `trial` says how: on which images, and after how many steps of training as a whole. Figures of
    different trials are not compared. `nsr` is that of the embedding, `iou` None where it was not
    measured, `seconds` the time of training and running.
    """

    trial: str
    blocks: tuple[str, ...]
    nsr: float
    nsr_of_images: tuple[float, ...]
    iou: float | None
    seconds: float

    @property
    def key(self) -> str:
        """Its key among the measurements."""
        return f"{_NETWORK}{self.trial}/{','.join(self.blocks)}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Read `to_dict` back."""
        known = {f.name: content[f.name] for f in fields(cls)}
        known |= {name: tuple(known[name]) for name in ("blocks", "nsr_of_images")}
        return cls(**known)


def trunk_key(slot: int, shape: str) -> str:
    """Key of the training that all bit-widths of a shape start from."""
    return f"{_TRUNK}{slot}/{shape}"


def replaced_key(slot: int, block: str) -> str:
    """Key of the loss of the teacher with one slot replaced."""
    return f"{_REPLACED}{slot}/{block}"


@dataclass(frozen=True, eq=False)
class Library:
    """What is known of the blocks of a space; `lines` are the measurements by key."""

    path: Path
    settings: Mapping[str, Any]
    lines: Mapping[str, Mapping[str, Any]]

    @property
    def slots(self) -> int:
        """Number of slots."""
        return int(self.settings["slots"])

    @property
    def geometry(self) -> str:
        """Name of the geometry of the encoder."""
        return str(self.settings["geometry"])

    @property
    def resolution(self) -> int:
        """Side of the input that the blocks were trained at, in pixels."""
        return int(self.settings["resolution"])

    @cached_property
    def blocks(self) -> dict[tuple[int, str], BlockRecord]:
        """Measured blocks by slot and name, in the order of training."""
        found = self._those(_BLOCK, BlockRecord.from_dict)
        return {(record.slot, record.block): record for record in found}

    @cached_property
    def networks(self) -> tuple[NetworkRecord, ...]:
        """Stitched networks that were run, those of the trial that was last added to."""
        found = tuple(self._those(_NETWORK, NetworkRecord.from_dict))
        return self.networks_of(found[-1].trial) if found else ()

    def networks_of(self, trial: str) -> tuple[NetworkRecord, ...]:
        """Stitched networks of one trial."""
        found = self._those(_NETWORK, NetworkRecord.from_dict)
        return tuple(record for record in found if record.trial == trial)

    @cached_property
    def replaced(self) -> dict[tuple[int, str], float]:
        """Loss of the teacher with one slot replaced, by slot and block, where it was measured."""
        lines = self._those(_REPLACED, dict)
        return {(int(line["slot"]), str(line["block"])): float(line["nsr"]) for line in lines}

    @property
    def seconds(self) -> float:
        """Time that training and measuring the blocks took."""
        trunks = sum(float(line["seconds"]) for line in self._those(_TRUNK, dict))
        return trunks + sum(record.seconds for record in self.blocks.values())

    def of_slot(self, slot: int) -> list[BlockRecord]:
        """The blocks of one slot."""
        return [record for record in self.blocks.values() if record.slot == slot]

    def pack(self, path: str | Path) -> Path:
        """Write everything but the weights into one JSON file, which `read_library` reads.

        Measured numbers keep four digits, more than their standard errors deserve.
        """
        content = {
            "format": _FORMAT, "settings": dict(self.settings),
            "lines": {key: _shortened(dict(line)) for key, line in self.lines.items()},
        }  # fmt: skip
        replace_text(Path(path), json.dumps(content, separators=(",", ":")) + "\n")
        return Path(path)

    def _those(self, prefix: str, make: Callable[[Mapping[str, Any]], Any]) -> Iterable[Any]:
        try:
            return [make(line) for key, line in self.lines.items() if key.startswith(prefix)]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.path}: not a library of blocks: {error!r}") from error


def _shortened(value: Any) -> Any:
    """The same JSON with four digits of every float."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {name: _shortened(part) for name, part in value.items()}
    return [_shortened(part) for part in value] if isinstance(value, list | tuple) else value


def read_library(path: str | Path) -> Library:
    """Read a library, a folder or a packed file; what a kill left half-written is dropped.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = Path(path)
    if path.is_dir():
        settings = _json(path / _SETTINGS, path)
        lines, _ = read_lines(path / _LINES, _line, advice="cut the file off before it")
        return Library(path, _checked(settings, path), dict(lines))
    content = _json(path, path)
    if content.get("format") != _FORMAT:
        raise DataError(f"{path}: not a packed library of blocks (format {_FORMAT})")
    return Library(path, _checked(content["settings"], path), content["lines"])


def weights_path(folder: Path, slot: int, block: str) -> Path:
    """Where the weights of a block lie in the folder of a library."""
    return folder / "weights" / f"{slot}-{block}.safetensors"


def _json(file: Path, path: Path) -> dict[str, Any]:
    if not file.is_file():
        raise DataError(
            f"{path}: no library of blocks there; expected a folder that `hwnas blocks build` "
            "wrote, or a packed library"
        )
    try:
        with explained("read", file):
            content = json.loads(read_packed_text(file))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{file}: damaged ({error}); build the library again") from error
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected a JSON object")
    return content


def _checked(settings: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    missing = [name for name in ("slots", "geometry", "resolution") if name not in settings]
    if missing:
        raise DataError(f"{path}: not a library of blocks: no {', '.join(missing)} in its settings")
    return settings


def _line(text: str) -> tuple[str, dict[str, Any]]:
    record = json.loads(text)
    if not isinstance(record, dict) or "key" not in record:
        raise ValueError("no key")
    return str(record.pop("key")), record
