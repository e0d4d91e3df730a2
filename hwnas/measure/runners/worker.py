"""The child process of a runner: JSON lines in, JSON lines out.

    python -m hwnas.measure.runners.worker

The first line is the configuration, `{"bench": "module:Class", "arguments": {...}, "rules":
{...}}`; the answer is `{"ready": VERSION}` or `{"broken": MESSAGE}`. Then each line is a subject.
While it is dealt with the worker says how far it is, `{"at": "building"}`, `{"at": "running"}`
before every session; the last line is `{"timing": {...}, "details": {...}}` or
`{"failed": MESSAGE, "cause": CAUSE}`. What libraries print goes to the error stream.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import IO, Any, Final, cast

from hwnas.measure.quiet import Quiet
from hwnas.measure.runners.bench import Bench, ConnectionLost, Unsupported
from hwnas.measure.runners.clocks import clocks
from hwnas.measure.runners.seam import from_json
from hwnas.measure.samples import Rules
from hwnas.measure.timing import take

__all__ = ["main"]

_LINE: Final = 300
_AGAIN: Final = 2


def main() -> None:
    """Serve until the parent closes the pipe or dies."""
    said = _own_output()
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    config = json.loads(sys.stdin.readline())
    try:
        bench = _opened(config)
    except Exception as error:
        _say(said, broken=_message(error))
        return
    _say(said, ready=bench.version)
    rules, quiet = Rules(**config["rules"]), Quiet()
    for line in sys.stdin:
        _say(said, **_answer(bench, rules, quiet, json.loads(line), said))


def _answer(
    bench: Bench,
    rules: Rules,
    quiet: Quiet,
    task: Mapping[str, Any],
    said: IO[str],
    again: int = _AGAIN,
) -> dict[str, Any]:
    """Time one subject; whatever goes wrong is its failure.

    What a broken connection interrupted is done again, but not for ever: the subject may be what
    breaks it.
    """
    try:
        _say(said, at="building")
        with bench.ready(from_json(task)) as ready:
            before = clocks()
            timing = take(
                ready.timed,
                ready.reference,
                rules,
                quiet=quiet,
                progress=lambda: _say(said, at="running"),
            )
            details = {**ready.details, "clocks_mhz": [before, clocks()]}
    except Unsupported as error:
        return {"failed": _message(error), "cause": "unsupported"}
    except ConnectionLost as error:
        if again > 0:
            return _answer(bench, rules, quiet, task, said, again - 1)
        return {"failed": _message(error), "cause": "connection"}
    except Exception as error:
        return {"failed": _message(error), "cause": "build"}
    return {"timing": asdict(timing), "details": details}


def _opened(config: Mapping[str, Any]) -> Bench:
    module, _, name = config["bench"].partition(":")
    return cast(Bench, getattr(importlib.import_module(module), name)(**config["arguments"]))


def _own_output() -> IO[str]:
    """Keep the pipe to the parent for ourselves: TVM and compilers print to file descriptor 1."""
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "w", encoding="utf-8")


def _say(out: IO[str], **fields: Any) -> None:
    out.write(json.dumps(fields) + "\n")
    out.flush()


def _message(error: Exception) -> str:
    """Return the error in a line; compilers write pages, whose end says what is wrong."""
    text = " ".join(str(error).split()) or type(error).__name__
    short = text if len(text) <= _LINE else f"... {text[-_LINE:]}"
    return short if isinstance(error, (ConnectionLost, Unsupported)) else _typed(error, short)


def _typed(error: Exception, text: str) -> str:
    from hwnas.errors import HwnasError

    return text if isinstance(error, HwnasError) else f"{type(error).__name__}: {text}"


def _die_with_parent(parent: int) -> None:
    """End this process when nobody is left to read; a kernel may hang for ever."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()
