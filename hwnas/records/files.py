"""Files that are whole or absent: temporary file, fsync, rename; append with roll-back."""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

from hwnas.errors import RunError

__all__ = ["append_text", "explained", "read_packed_text", "replace_bytes", "replace_text"]

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space, or choose another folder with --out",
    errno.EDQUOT: "your disk quota is used up; free space, or choose another folder with --out",
    errno.EACCES: "no permission to write there; choose another folder with --out",
    errno.EPERM: "no permission to write there; choose another folder with --out",
    errno.EROFS: "the file system is read-only; choose another folder with --out",
    errno.ENOENT: "a folder of this path does not exist (any more); choose another with --out",
    errno.ENOTDIR: "a part of this path is a file, not a folder; choose another folder with --out",
}


@contextlib.contextmanager
def explained(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a RunError that says what to do.

    Raises:
        RunError: an OSError came out of the block.
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "check the folder, or choose another with --out")
        reason = error.strerror or str(error)
        raise RunError(f"cannot {doing} {path}: {reason}; {advice}") from error


def read_packed_text(path: Path) -> str:
    """Read a text file, packed by gzip where its name ends in `.gz`.

    Raises:
        OSError: it cannot be read, or its packing is damaged.
        UnicodeDecodeError: it is no text.
    """
    content = path.read_bytes()
    try:
        return (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    except (EOFError, zlib.error) as error:
        raise OSError(f"its packing is damaged: {error}") from error


def replace_text(path: Path, text: str) -> None:
    """Write `text` so that a reader, or a kill at any instant, finds the old file or the new one.

    Raises:
        RunError: it cannot be written; the old file, if any, is untouched.
    """
    replace_bytes(path, text.encode("utf-8"))


def replace_bytes(path: Path, content: bytes) -> None:
    """As `replace_text`, for bytes."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained("write", path):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def append_text(descriptor: int, path: Path, text: str) -> None:
    """Append `text` to an open file; what could only be written in part is taken back.

    Raises:
        RunError: it cannot be written.
    """
    data = text.encode()
    with explained("append to", path):
        start = os.fstat(descriptor).st_size
        try:
            done = 0
            while done < len(data):
                done += os.write(descriptor, data[done:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, start)
            raise
