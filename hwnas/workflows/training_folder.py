"""The folder of a training run: made once, locked while in use, continued on request."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hwnas.errors import Interrupted, RunError
from hwnas.records.files import explained, replace_text
from hwnas.records.lock import FolderLock
from hwnas.supernet.training.distributed import World

__all__ = ["explained_stop", "open_folder", "write_state"]

_FILE = "state.json"


@contextmanager
def open_folder(
    out: Path, request: Mapping[str, Any], *, resume: bool, world: World
) -> Iterator[dict[str, Any]]:
    """Make or continue the folder, keep it to this run, and yield its state.

    `request` is what decides the result, as JSON; a folder is continued for an equal one only.
    Processes that do not lead get an empty state and touch nothing.

    Raises:
        RunError: the folder holds another run, or this one without `resume`; or it is in use.
    """
    if not world.leads:
        yield {}
        return
    with explained("create", out):
        out.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(out / ".lock")
    try:
        yield _open(out, dict(request), resume)
    finally:
        lock.release()


def write_state(out: Path, state: Mapping[str, Any]) -> None:
    """Write the state whole or not at all."""
    replace_text(out / _FILE, json.dumps(state, indent=1))


@contextmanager
def explained_stop() -> Iterator[None]:
    """Say how to go on after Ctrl-C."""
    advice = "repeat the command with --resume to go on"
    try:
        yield
    except Interrupted as error:
        raise Interrupted(f"{error}; {advice}") from error
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped between two stages; {advice}") from error


def _open(out: Path, request: dict[str, Any], resume: bool) -> dict[str, Any]:
    path = out / _FILE
    if not path.is_file():
        state = {"request": request, "stages": {}}
        write_state(out, state)
        return state
    if not resume:
        raise RunError(f"{out} holds a training run already; add --resume or name another folder")
    try:
        state = dict(json.loads(path.read_text(encoding="utf-8")))
        before = dict(state["request"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{path} is damaged ({error}); name another folder, the stages that are done stay here"
        ) from error
    changed = [k for k in {**before, **request} if before.get(k) != request.get(k)]
    if changed:
        raise RunError(
            f"{out} was started with other values of {', '.join(changed)} (see {path}); "
            "repeat the command that started it, or name another folder"
        )
    return state
