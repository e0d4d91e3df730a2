"""A folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hwnas.errors import Interrupted, RunError
from hwnas.records.files import explained

__all__ = ["drafted"]


@contextmanager
def drafted(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out` that takes its name at the end of the block.

    Whatever goes wrong in the block, nothing is left behind; a kill leaves a hidden draft and no
    `out`.

    Raises:
        RunError: `out` exists already, or cannot be written.
        Interrupted: Ctrl-C.
    """
    if os.path.lexists(out):
        raise RunError(f"{out} exists already; name another folder with --out, or remove it")
    draft = out.with_name(f".{out.name}.{os.getpid()}.draft")
    try:
        with explained("create", out):
            draft.mkdir(parents=True)
        yield draft
        with explained("create", out):
            draft.rename(out)
    except KeyboardInterrupt as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise Interrupted(f"the export was stopped; {out} was not written") from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
