"""What a fitted latency predictor consists of, and the folder that holds it.

`model.json` says what the model is and names what lies beside it: `arrays-….npz` (numpy, without
pickle), `member_0.json.gz` in `trees-…` (XGBoost's own JSON, which later versions read), and models
of other devices that it rests on in `source-0-…`. Their names contain a hash of what is in them and
`model.json` is replaced last, in one step, so that a kill at any instant leaves the old model or
the new one.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostContext
from hwnas.errors import CostError
from hwnas.records.files import explained, replace_text

__all__ = ["MODEL_FILE", "check_belongs", "nested", "read_folder", "under", "write_folder"]

Arrays = dict[str, NDArray[Any]]
MODEL_FILE = "model.json"
_FORMAT = 1


def write_folder(
    folder: Path,
    content: dict[str, Any],
    arrays: Arrays,
    parts: Mapping[str, Callable[[Path], None]],
) -> None:
    """Write a model; what an older one left there is removed afterwards.

    `parts` are functions that fill a folder each, by the beginning of its name.

    Raises:
        RunError: the folder cannot be written.
    """
    with explained("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    ordered: dict[str, Any] = {name: arrays[name] for name in sorted(arrays)}
    np.savez_compressed(buffer, **ordered)
    files = {"arrays": _keep(folder, "arrays", ".npz", buffer.getvalue())}
    files |= {stem: _keep_part(folder, stem, save) for stem, save in parts.items()}
    text = json.dumps({"format": _FORMAT, **content, "files": files}, indent=1, allow_nan=False)
    replace_text(folder / MODEL_FILE, text + "\n")
    for pattern in ("arrays-*", "trees-*", "source-*"):
        for stale in set(folder.glob(pattern)) - {folder / name for name in files.values()}:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()


def read_folder(folder: Path) -> tuple[dict[str, Any], Arrays, dict[str, Path]]:
    """Return what `write_folder` wrote: content, arrays, and the folders of its parts.

    Raises:
        CostError: there is no such model, or it is damaged.
    """
    try:
        content = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
        files = content.pop("files")
        if content.pop("format") != _FORMAT:
            raise ValueError("it was written by another version of hwnas")
        path = folder / files.pop("arrays")
        data = path.read_bytes()
        if path.name != _name("arrays", ".npz", data):
            raise ValueError(f"{path.name} is damaged")
        with np.load(io.BytesIO(data), allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        parts = {stem: folder / name for stem, name in files.items()}
        for stem, part in parts.items():
            if part.name != _part_name(stem, part):
                raise ValueError(f"{part.name} is damaged")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CostError(
            f"{folder}: no latency predictor there ({error}); name a folder that `hwnas calibrate` "
            "wrote, or calibrate again"
        ) from error
    return content, arrays, parts


def check_belongs(folder: Path, content: Mapping[str, Any], context: CostContext) -> None:
    """Refuse a model of another space, or of another device, runtime, thread count or mode."""
    space, device = context.space, context.device
    if content.get("name") != "latency_xgb" or content.get("space") != space.name:
        raise CostError(
            f"{folder}: a latency predictor of the space {content.get('space')!r}; expected one of "
            f"{space.name!r}: calibrate the device for it"
        )
    own = content.get("fingerprint")
    if own is not None and device is not None and own != device.fingerprint:
        raise CostError(
            f"{folder}: a latency predictor of {own}; the device is {device.fingerprint}: a "
            "latency belongs to processor, runtime, threads and power mode, so calibrate again"
        )


def nested(name: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Put `name.` before each name, so that the arrays of several parts go into one file."""
    return {f"{name}.{own}": array for own, array in arrays.items()}


def under(name: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Return those that `nested` put there, by their own names."""
    start = f"{name}."
    return {n.removeprefix(start): a for n, a in arrays.items() if n.startswith(start)}


def _keep(folder: Path, stem: str, suffix: str, data: bytes) -> str:
    name = _name(stem, suffix, data)
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    with explained("write", folder / name):
        temporary.write_bytes(data)
        temporary.replace(folder / name)
    return name


def _keep_part(folder: Path, stem: str, save: Callable[[Path], None]) -> str:
    temporary = folder / f".{stem}.{os.getpid()}.tmp"
    with explained("write", temporary):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save(temporary)
        name = _part_name(stem, temporary)
        if (folder / name).exists():
            shutil.rmtree(temporary)
        else:
            temporary.replace(folder / name)
    return name


def _name(stem: str, suffix: str, data: bytes) -> str:
    return f"{stem}-{hashlib.sha256(data).hexdigest()[:12]}{suffix}"


def _part_name(stem: str, folder: Path) -> str:
    # a model's own json names its arrays and trees by what is in them
    data = b"".join(path.read_bytes() for path in sorted(folder.glob("*.json*")))
    return _name(stem, "", data)
