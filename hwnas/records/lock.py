"""At most one process writes into a run folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from hwnas.errors import RunError
from hwnas.records.files import explained

__all__ = ["FolderLock"]


class FolderLock:
    """An exclusive lock on a run folder, held until `release` or the end of the process.

    The kernel drops it when the process dies, however it dies, so a lock is never stale: the file
    stays, with the process id of the last owner, and the next process takes it over. POSIX only.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            RunError: another process holds it, or the folder is not writable.
        """
        self._path = path
        with explained("lock", path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._take()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _take(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(self._descriptor, 32).decode(errors="replace").strip() or "unknown"
            raise RunError(
                f"{self._path.parent} is in use by process {owner}; one process at a time writes "
                "into a run folder: wait for it, or stop it"
            ) from error
        except OSError as error:
            raise RunError(
                f"cannot lock {self._path}: {error.strerror}; this file system has no file locks: "
                "choose a folder on a local disk with --out"
            ) from error
        with explained("lock", self._path):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
