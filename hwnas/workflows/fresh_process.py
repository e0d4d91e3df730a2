"""One call in a process of its own, whose peak of memory is then the call's."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

__all__ = ["in_fresh_process"]

_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072"}
_SPAWN = multiprocessing.get_context("spawn")
Spec = TypeVar("Spec")
Found = TypeVar("Found")


def in_fresh_process(measure: Callable[[Spec], Found], spec: Spec) -> Found:
    """`measure(spec)`, both of which can be pickled, in a new process; raises what it raises."""
    with _lean_allocator(), ProcessPoolExecutor(1, mp_context=_SPAWN) as pool:
        return pool.submit(measure, spec).result()


@contextmanager
def _lean_allocator() -> Iterator[None]:
    """Have glibc return freed blocks at once, so that the peak is that of memory in use."""
    before = {name: os.environ.get(name) for name in _ALLOCATOR}
    os.environ.update(_ALLOCATOR)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
