"""Files of tensors: `.safetensors`, or `.safetensors.gz` where gzip packs them; what lies beside.

The one place that knows these endings. Nothing here needs torch.
"""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

from hwnas.errors import ConfigError

__all__ = [
    "check_tensor_name",
    "file_beside",
    "gunzip_tensors",
    "gzip_tensors",
    "is_gzipped",
    "is_tensor_file",
    "metadata_of",
    "stem_of",
    "tensor_file",
    "with_sorted_metadata",
]

_PLAIN, _GZIPPED = ".safetensors", ".safetensors.gz"
_LEVEL = 9
_MOST_HEADER = 100_000_000  # bytes, the limit of the safetensors format


def is_tensor_file(path: str | Path) -> bool:
    """Whether a file is of tensors, by its name."""
    return Path(path).name.endswith((_PLAIN, _GZIPPED))


def is_gzipped(path: str | Path) -> bool:
    """Whether a file of tensors is packed by gzip, by its name."""
    return Path(path).name.endswith(_GZIPPED)


def check_tensor_name(path: str | Path) -> None:
    """Raise ConfigError for a file to be written whose name has neither ending."""
    if not is_tensor_file(path):
        raise ConfigError(f"{path}: expected a name that ends in {_PLAIN} or {_GZIPPED}")


def stem_of(path: str | Path) -> str:
    """The name of a file without its ending; of any other file than tensors its own stem."""
    name = Path(path).name
    ending = next((e for e in (_GZIPPED, _PLAIN) if name.endswith(e)), None)
    return Path(path).stem if ending is None else name.removesuffix(ending)


def tensor_file(stem: Path) -> Path | None:
    """The file of tensors of that name, plain or packed by gzip; None where there is neither."""
    found = (stem.with_name(f"{stem.name}{ending}") for ending in (_PLAIN, _GZIPPED))
    return next((path for path in found if path.is_file()), None)


def file_beside(path: str | Path, what: str) -> Path | None:
    """`X_supernet.safetensors[.gz]` beside `X.safetensors[.gz]`, for `what` = "supernet"."""
    return tensor_file(Path(path).with_name(f"{stem_of(path)}_{what}"))


def gzip_tensors(content: bytes) -> bytes:
    """Pack a safetensors file; equal tensors and metadata give equal bytes.

    The header of gzip says neither time nor name.
    """
    packed = io.BytesIO()
    # mtime 0 in gzip.compress leaves the header to zlib, whose versions differ in it
    with gzip.GzipFile("", "wb", _LEVEL, packed, mtime=0) as file:
        file.write(with_sorted_metadata(content))
    return packed.getvalue()


def gunzip_tensors(path: Path) -> bytes:
    """Undo `gzip_tensors`.

    Raises:
        OSError, EOFError, zlib.error: it is no file of gzip, truncated, or damaged.
    """
    with gzip.open(path) as file:
        return file.read()


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a `.safetensors.gz` file; no more than its header is unpacked.

    Raises:
        OSError, EOFError, zlib.error: as `gunzip_tensors`, as far as it was read.
        ValueError: what is packed has no header of safetensors.
    """
    with gzip.open(path) as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= _MOST_HEADER:
            raise ValueError(f"its header would have {size} bytes")
        text = file.read(size)
    found = json.loads(text)
    metadata: dict[str, str] | None = found.get("__metadata__") if isinstance(found, dict) else None
    return dict(metadata or {})


def with_sorted_metadata(content: bytes) -> bytes:
    """A safetensors file with sorted metadata, which the library writes in any order."""
    size = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + content[8 + size :]
