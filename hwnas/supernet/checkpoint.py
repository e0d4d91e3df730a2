"""Read and write weights of the SAM family, plain or packed to 8 bits per output channel.

Nothing is unpickled: safetensors (packed by gzip where the name ends in `.gz`), or a `.pth` file
read with `weights_only`.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load as of_bytes
from safetensors.torch import load_file, save_file
from safetensors.torch import save as to_bytes

from hwnas.errors import CheckpointError
from hwnas.records.files import explained
from hwnas.records.tensor_files import (
    gunzip_tensors,
    gzip_tensors,
    is_gzipped,
    is_tensor_file,
    metadata_of,
    stem_of,
    tensor_file,
)
from hwnas.supernet.packing import pack, unpack
from hwnas.supernet.sam_model import build_sam
from hwnas.workload.sam_geometry import GEOMETRIES, SamGeometry

__all__ = [
    "PUBLISHED",
    "asset_path",
    "check_published",
    "load_sam",
    "load_weights",
    "read_metadata",
    "read_stored",
    "read_tensors",
    "sam_of",
    "save_weights",
    "shipped_file",
]

_UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
)
_DAMAGED = (safetensors.SafetensorError, OSError, EOFError, ValueError, zlib.error)
_GZIP_MAGIC = b"\x1f\x8b"
_ASSETS = Path(__file__).resolve().parents[1] / "assets"

# Size in bytes and sha256 of the official files, from the data manifest of this project.
PUBLISHED: dict[str, tuple[str, int, str]] = {
    "sam_vit_b_01ec64.pth": (
        "sam-vit-b",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
    ),
    "sam_vit_l_0b3195.pth": (
        "sam-vit-l",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    "sam_vit_h_4b8939.pth": (
        "sam-vit-h",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
    ),
}


def shipped_file(name: str, part: str = "") -> Path | None:
    """The shipped file of a model (`sam-vit-t`), or of a `part` of it (`supernet`), if any."""
    return tensor_file(_ASSETS / "_".join(filter(None, (name.replace("-", "_"), part))))


def asset_path(name: str) -> Path:
    """Where the weights of a shipped model lie; raises CheckpointError for one that is not."""
    path = shipped_file(name)
    if path is None:
        files = filter(is_tensor_file, _ASSETS.glob("sam_vit_?.*"))
        shipped = ", ".join(sorted(stem_of(p).replace("_", "-") for p in files))
        made = ""
        if shipped_file(name, "head") is not None:
            made = f"; `hwnas convert {name} --base BACKBONE --out FILE` makes it"
        raise CheckpointError(
            f"{name}: no weights are shipped under this name (shipped: {shipped}); "
            f"give a checkpoint, to a search as --supernet FILE{made}"
        )
    return path


def load_sam(name_or_path: str | Path, geometry: SamGeometry | None = None) -> Any:
    """Build the model that a file or a shipped name holds and load every weight.

    The geometry is the given one, else the one that the file's metadata or published name
    states, else the one whose encoder has the shape of the file's. Raises CheckpointError with
    all missing, unexpected and mis-shaped keys.
    """
    named = str(name_or_path) in GEOMETRIES
    path = asset_path(str(name_or_path)) if named else Path(name_or_path)
    check_published(path)
    weights = read_tensors(path)
    return sam_of(geometry or _geometry_of(path, weights), weights, source=str(path))


def sam_of(geometry: SamGeometry, weights: dict[str, torch.Tensor], *, source: str) -> Any:
    """Build a model with exactly these weights; the random state of torch stays as it is."""
    with torch.random.fork_rng(devices=[]):  # every number that it draws is overwritten
        sam = build_sam(geometry)
    load_weights(sam, weights, source=source)
    return sam


def load_weights(module: Any, weights: dict[str, torch.Tensor], *, source: str) -> None:
    """Copy `weights` into `module`; keys and shapes must agree exactly."""
    own = module.state_dict()
    problems = [f"  {key}: missing" for key in own if key not in weights]
    problems += [f"  {key}: unexpected" for key in weights if key not in own]
    problems += [
        f"  {key}: shape {tuple(weights[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    if problems:
        geometry = getattr(module, "geometry", None)
        target = geometry.name if geometry else type(module).__name__
        raise CheckpointError(
            f"{source} does not fit {target}: {len(problems)} problems\n"
            + "\n".join(problems)
            + "\nname the model that the file belongs to, or another file"
        )
    module.load_state_dict(weights)


def read_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """Read all tensors of a file of tensors (packed ones unpacked to float32) or a `.pth` file."""
    path = Path(path)
    stored = read_stored(path)
    if not is_tensor_file(path):
        return stored
    try:
        return unpack(stored)
    except ValueError as error:
        raise _unreadable(path, error) from error


def read_stored(path: str | Path) -> dict[str, torch.Tensor]:
    """As `read_tensors`, but the tensors as they lie in the file."""
    path = _existing(path)
    if is_tensor_file(path):
        try:
            return of_bytes(gunzip_tensors(path)) if is_gzipped(path) else load_file(path)
        except _DAMAGED as error:
            raise _unreadable(path, error) from error
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    tensors: dict[str, torch.Tensor] = loaded if isinstance(loaded, dict) else {}
    if loaded is not tensors or not all(isinstance(v, torch.Tensor) for v in tensors.values()):
        raise CheckpointError(
            f"{path} holds {type(loaded).__name__} with other things than tensors, expected a "
            "mapping of names to tensors (a state dict); save `model.state_dict()`"
        )
    return dict(tensors)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The text metadata of a file of tensors, of which only the header is read; else empty."""
    if not is_tensor_file(path):
        return {}
    path = _existing(path)
    try:
        if is_gzipped(path):
            return metadata_of(path)
        with safetensors.safe_open(str(path), framework="pt") as file:
            return dict(file.metadata() or {})
    except _DAMAGED as error:
        raise _unreadable(path, error) from error


def save_weights(
    path: str | Path,
    weights: dict[str, torch.Tensor],
    *,
    metadata: dict[str, str] | None = None,
    packed: bool = False,
) -> Path:
    """Write weights as safetensors, whole or not at all; `packed` as 8 bits per output channel.

    A name that ends in `.safetensors.gz` gives a file packed by gzip, equal for equal weights and
    metadata.

    Raises:
        RunError: it cannot be written.
    """
    path = Path(path)
    tensors = pack(weights) if packed else {k: v.contiguous() for k, v in weights.items()}
    partial = path.with_name(path.name + ".part")
    with explained("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if is_gzipped(path):
                partial.write_bytes(gzip_tensors(to_bytes(tensors, metadata or {})))
            else:
                save_file(tensors, partial, metadata=metadata or {})
            partial.chmod(0o644)  # safetensors makes private files
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def check_published(path: Path) -> str | None:
    """Check size and sha256 of a file whose name is that of an official SAM checkpoint.

    Returns the geometry's name, or None for any other file name.
    """
    if path.name not in PUBLISHED or not path.is_file():
        return None
    geometry, size, digest = PUBLISHED[path.name]
    actual = path.stat().st_size
    if actual != size:
        raise CheckpointError(
            f"{path}: {actual} bytes, the published file has {size}; "
            "download it again, or rename it if it is your own"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != digest:
        raise CheckpointError(
            f"{path}: sha256 {found}, the published file has {digest}; "
            "download it again, or rename it if it is your own"
        )
    return geometry


def _geometry_of(path: Path, weights: dict[str, torch.Tensor]) -> SamGeometry:
    name = read_metadata(path).get("geometry") or PUBLISHED.get(path.name, ("",))[0]
    if name in GEOMETRIES:
        return GEOMETRIES[name]
    table = weights.get("image_encoder.pos_embed")
    width = table.shape[-1] if table is not None and table.ndim == 4 else None
    for geometry in GEOMETRIES.values():
        if geometry.dim == width:
            return geometry
    widths = ", ".join(f"{g.name} {g.dim}" for g in GEOMETRIES.values())
    raise CheckpointError(
        f"{path}: image_encoder.pos_embed is {'absent' if width is None else f'{width} wide'}; "
        f"expected a SAM checkpoint of a known width ({widths})"
    )


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise CheckpointError(
            f"{path}: no such file; expected a .safetensors, .safetensors.gz or .pth checkpoint"
        )
    return Path(path)


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    advice = "the file may be truncated: copy or download it again"
    packed = _starts_as_gzip(path)
    if is_gzipped(path) and packed is False:
        advice = f"its name says packed by gzip, which it is not: name it {path.stem}"
    elif path.suffix == ".safetensors" and packed:
        advice = f"it is packed by gzip: name it {path.name}.gz"
    elif is_gzipped(path):
        advice = f"expected safetensors packed by gzip; {advice}"
    return CheckpointError(f"{path}: cannot be read as a checkpoint ({reason}); {advice}")


def _starts_as_gzip(path: Path) -> bool | None:
    """None where the file is too short to tell, or cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_GZIP_MAGIC))
    except OSError:
        return None
    return start == _GZIP_MAGIC if len(start) == len(_GZIP_MAGIC) else None
