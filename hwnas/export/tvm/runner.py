"""Runs an exported TVM module with numpy and TVM's runtime alone; a copy lies in every module.

    sam = TvmModule("folder")
    embedding = sam.encode(image)                       # (3, R, R) float32, normalized, padded
    masks, iou = sam.segment(embedding, box=(10, 12, 80, 90))

What it needs of TVM is `pip install apache-tvm-ffi` and one library, `libtvm_runtime.so`: that of
an installed `apache-tvm`, of which nothing else is loaded, or a copy beside the module, or what
`TVM_RUNTIME_LIBRARY` names. This file imports nothing of hwnas.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import json
import os
import platform
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

__all__ = ["ModuleError", "TvmModule"]

Array = np.ndarray[Any, Any]

_FORMAT: Final = "hwnas-tvm-1"
_ALIGNED: Final = 64  # bytes; what the kernels' vector instructions want
_CPU, _POOLED = 1, 2  # of DLPack, of TVM's allocators
_DTYPES: Final = {"I8": "int8", "U16": "uint16", "F16": "float16", "F32": "float32"}
_LABELS: Final = {(2, 3): "box", (1, -1): "foreground", (0, -1): "background"}
_CELLS: Final = 4  # of a drawn box along one of the embedding's
_ON_X86: Final = platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"
_MODES: Final = ctypes.CDLL("libm.so.6") if _ON_X86 else None
# glibc's fenv_t on x86-64: 32 bytes, the last four are MXCSR, whose bits 15 and 6 are FTZ and DAZ
_MODES_BYTES, _MXCSR_AT, _FLUSH = 32, 28, 0x8040


class ModuleError(Exception):
    """The module cannot be used here; the message says why and what to do."""


class TvmModule:
    """An exported subnet: encoder, and decoders of the prompts that were exported.

    Args:
        folder: The module's folder.
        threads: Threads of TVM's pool; None: as many as the module's device has.

    Raises:
        ModuleError: a file is missing or was changed, the module is for another machine, or TVM's
            runtime is not installed.
    """

    def __init__(self, folder: str | Path, *, threads: int | None = None) -> None:
        self.folder = Path(folder)
        self.description = _described(self.folder)
        _check_machine(self.description["machine"])
        _check_files(self.folder, self.description["files"])
        self.resolution: int = self.description["resolution"]
        self.grid: int = self.resolution // self.description["patch"]
        self._tensors = _parameters(self.folder / self.description["parameters"])
        ffi = _runtime(self.folder)
        count = threads or self.description["threads"]
        ffi.get_global_func("runtime.config_threadpool")(1, count)
        self._programs = {
            name: _Program(ffi, self.folder, fields, self._tensors)
            for name, fields in self.description["programs"].items()
        }

    @property
    def prompts(self) -> list[str]:
        """Prompts that the module takes: `box`, `foreground` and `background`, or none."""
        return sorted(self.description["prompts"])

    def encode(self, image: Array) -> Array:
        """Embed a normalized image (3, R, R) as (g, g, 256)."""
        r = self.resolution
        if image.shape != (3, r, r):
            raise ModuleError(
                f"the image is {image.shape}, the module takes (3, {r}, {r}): scale its long side "
                f"to {r} pixels, normalize it, and fill the bottom and the right with zeros"
            )
        (embedding,) = self._programs["encoder"](image=np.transpose(image, (1, 2, 0)))
        return embedding.reshape(self.grid, self.grid, -1)

    def segment(
        self, embedding: Array, *, box: Sequence[float] | None = None,
        point: Sequence[float] | None = None, foreground: bool = True,
    ) -> tuple[Array, Array]:  # fmt: skip
        """Mask logits (4, 4 g, 4 g) and predicted IoU (4,) of one prompt; mask 0 is the usual one.

        Args:
            embedding: What `encode` returned.
            box: x0, y0, x1, y1 in pixels of the padded input.
            point: x, y in pixels of the padded input.
            foreground: Whether the point lies on the object.
        """
        if (box is None) == (point is None):
            raise ModuleError("give either a box or a point")
        kind = "box" if box is not None else "foreground" if foreground else "background"
        if kind not in self.description["prompts"]:
            raise ModuleError(f"the module takes {self.prompts or 'no prompts'}, not a {kind}")
        prompt = self.description["prompts"][kind]
        corners = np.zeros((2, 2), np.float32)
        given = np.asarray(point if box is None else box, np.float32).reshape(-1, 2)
        corners[: len(given)] = (given + 0.5) / self.resolution
        program = self._programs[prompt["program"]]
        inputs = {"embedding": embedding, "points": corners}
        inputs["tokens"] = self._tensors[prompt["tokens"]]
        if "drawn" in program.inputs:
            cell = self.description["patch"] / _CELLS
            inputs["drawn"] = _drawn(given.ravel(), _CELLS * self.grid, cell)
        *masks, iou = program(**inputs)
        side = _CELLS * self.grid
        return np.stack(masks).reshape(-1, side, side), iou

    def embed_input(self, image: Array) -> Array:
        """Embed a normalized square (1, 3, R, R) as (1, 256, g, g), as other runtimes do."""
        return np.ascontiguousarray(self.encode(image[0]).transpose(2, 0, 1))[None]

    def logits(self, embedding: Array, points: Array, labels: Array) -> tuple[Array, Array]:
        """Mask 0 (P, 4 g, 4 g) of each prompt and its predicted IoU (P,), as other runtimes do.

        Args:
            embedding: (1, 256, g, g)
            points: In pixels of the input (P, 2, xy): two corners, or a point and a padding point.
            labels: 2 and 3 for the corners; 1, or 0 for the background, and -1 (P, 2).
        """
        flat = np.ascontiguousarray(embedding[0].transpose(1, 2, 0))
        found = [
            self._one(flat, places, given) for places, given in zip(points, labels, strict=True)
        ]
        return np.stack([masks[0] for masks, _ in found]), np.stack([iou[0] for _, iou in found])

    def _one(self, embedding: Array, places: Array, labels: Array) -> tuple[Array, Array]:
        kind = _LABELS.get(tuple(np.asarray(labels).tolist()))
        if kind is None:
            raise ModuleError(
                f"points with the labels {tuple(np.asarray(labels).tolist())}: a module takes one "
                "box (2, 3) or one point (1 or 0, and -1 for the padding point)"
            )
        if kind == "box":
            return self.segment(embedding, box=np.asarray(places).ravel().tolist())
        return self.segment(embedding, point=places[0], foreground=kind == "foreground")


class _Program:
    """One library with its constants and buffers for its inputs, bound once."""

    def __init__(
        self, ffi: Any, folder: Path, fields: Mapping[str, Any], tensors: Mapping[str, Array]
    ) -> None:
        self.inputs: dict[str, Array] = {
            name: _aligned(np.zeros(elems, np.float32)) for name, elems in fields["inputs"]
        }
        machine = ffi.load_module(str(folder / fields["library"]))["vm_load_executable"]()
        machine["vm_initialization"](_CPU, 0, _POOLED, _CPU, 0, _POOLED)
        self._kept = [*self.inputs.values(), *(tensors[name] for name in fields["constants"])]
        arguments = [ffi.from_dlpack(value) for value in self._kept]
        machine["save_function"]("main", "bound", True, *arguments)
        self._machine, self._run = machine, machine["bound"]

    def __call__(self, **values: Array) -> list[Array]:
        for name, buffer in self.inputs.items():
            value = np.asarray(values[name], np.float32)
            buffer.reshape(value.shape)[...] = value
        with _flushed_denormals():
            found = self._run()
        outputs = [found] if hasattr(found, "__dlpack__") else list(found)
        return [np.array(np.from_dlpack(output)) for output in outputs]


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """Round numbers below 1.2e-38 to zero, where glibc on x86-64 lets us say so.

    The exponentials of a softmax end there, and a processor takes many cycles for each. Threads
    that TVM starts meanwhile take the mode over.
    """
    if _MODES is None:
        yield
        return
    before = ctypes.create_string_buffer(_MODES_BYTES)
    _MODES.fegetenv(before)
    (mode,) = struct.unpack_from("<I", before, _MXCSR_AT)
    flushed = ctypes.create_string_buffer(before.raw, _MODES_BYTES)
    struct.pack_into("<I", flushed, _MXCSR_AT, mode | _FLUSH)
    _MODES.fesetenv(flushed)
    try:
        yield
    finally:
        _MODES.fesetenv(before)


def _described(folder: Path) -> dict[str, Any]:
    file = folder / "module.json"
    try:
        description: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModuleError(f"{file}: no such file; give the folder of an exported module") from error
    except ValueError as error:
        raise ModuleError(f"{file} is no JSON ({error}); export the module again") from error
    if description.get("format") != _FORMAT:
        raise ModuleError(
            f"{file}: format {description.get('format')!r}, this runner reads {_FORMAT!r}; use the "
            "runner that lies in the module"
        )
    return description


def _check_machine(machine: Mapping[str, Any]) -> None:
    here = platform.machine()
    if here != machine["architecture"]:
        raise ModuleError(
            f"the module was compiled for {machine['architecture']} ({machine['target']}), this "
            f"machine is {here}; export it for a device of this kind"
        )
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return
    missing = sorted(set(machine["instructions"]) - set(text.split()))
    if missing:
        raise ModuleError(
            f"the module needs the instructions {', '.join(missing)}, which this processor lacks; "
            "export it for this device"
        )


def _check_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, expected in files.items():
        try:
            found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except FileNotFoundError as error:
            raise ModuleError(f"{folder / name} is missing; copy the whole folder") from error
        if found != expected:
            raise ModuleError(
                f"{folder / name} is not the file that was exported: its sha256 is {found[:12]}, "
                f"not {expected[:12]}; it is damaged or was edited, so copy or export it again"
            )


def _parameters(file: Path) -> dict[str, Array]:
    """Read safetensors: a header's length, the header, and the tensors one after another."""
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, fields in header.items():
        if name == "__metadata__":
            continue
        start, end = fields["data_offsets"]
        dtype = np.dtype(_DTYPES[fields["dtype"]])
        values = np.frombuffer(data, dtype, (end - start) // dtype.itemsize, 8 + length + start)
        tensors[name] = _aligned(values)
    return tensors


def _aligned(values: Array) -> Array:
    """Copy to memory that starts at a multiple of 64 bytes."""
    room = np.empty(values.nbytes + _ALIGNED, np.uint8)
    start = -room.ctypes.data % _ALIGNED
    copy = room[start : start + values.nbytes].view(values.dtype)
    copy[...] = values
    return copy


def _runtime(folder: Path) -> Any:
    """Load TVM's runtime library and return the module `tvm_ffi`."""
    try:
        import tvm_ffi
    except ImportError as error:
        raise ModuleError("needs tvm_ffi: pip install apache-tvm-ffi") from error
    name, found = "libtvm_runtime.so", importlib.util.find_spec("tvm")
    places = [Path(os.environ.get("TVM_RUNTIME_LIBRARY", "")), folder / name]
    if found is not None and found.origin is not None:
        places.append(Path(found.origin).parent / "lib" / name)
    library = next((place for place in places if place.is_file()), None)
    if library is None:
        raise ModuleError(
            f"needs {name}: pip install apache-tvm, or copy that file beside the module"
        )
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    return tvm_ffi


def _drawn(box: Array, side: int, cell: float) -> Array:
    """A box as a map (side, side): 1 inside, -1 outside, between where it covers a part."""
    edges = np.arange(side, dtype=np.float32) * np.float32(cell)
    across, down = (
        np.clip(np.minimum(high + 1, edges + cell) - np.maximum(low, edges), 0, None) / cell
        for low, high in zip(box[:2], box[2:], strict=True)
    )
    return np.asarray(2 * down[:, None] * across[None, :] - 1, np.float32)
