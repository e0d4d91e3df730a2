"""The files that decide the result of a search, and their hashes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hwnas.records import hash_inputs
from hwnas.records.tensor_files import file_beside
from hwnas.registry.loading import split_file_spec
from hwnas.workflows.resolve import Resolved

__all__ = ["input_hashes"]


def input_hashes(live: Resolved) -> dict[str, str]:
    """sha256 by path of every file that the user named: plug-ins, space, device, weights, data.

    Built-in parts are not hashed; the version in `environment.json` stands for them. A cost model
    that reads files of its own names them in an optional attribute `input_files`.
    """
    return hash_inputs(_files(live))


def _files(live: Resolved) -> Iterator[Path]:
    config = live.config
    for spec in (config.space, *config.objectives, *config.costs, config.rescore or ""):
        file = split_file_spec(spec)
        if file is not None:
            yield Path(file[0])
        elif Path(spec).suffix in {".yaml", ".yml"}:
            yield Path(spec)
    for named in (config.device, config.supernet, config.data):
        if named is not None and Path(named).exists():
            yield Path(named)
    beside = None if config.supernet is None else file_beside(config.supernet, "supernet")
    if beside is not None:
        yield beside
    for column in live.problem.columns:
        yield from getattr(column.model, "input_files", ())
