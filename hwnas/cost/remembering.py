"""Cost models that measure much before their first answer, and leave it where a study can keep it.

A study that is killed takes values of architectures up again by itself. What it cannot see is what
a model measures inside: the errors of every group of a supernet, image by image. A model that has
`remember_in` is given a place for them. The protocol is optional, and looked for with `isinstance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

__all__ = ["Records", "Remembering"]


class Records(Protocol):
    """Records by key, plain JSON each; floats come back to the last bit."""

    def __contains__(self, key: str) -> bool: ...

    def __getitem__(self, key: str) -> Mapping[str, Any]: ...

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Keep one record."""
        ...


@runtime_checkable
class Remembering(Protocol):
    """A cost model that can take up what it measured in an earlier process."""

    def remember_in(self, records: Records) -> None:
        """Use what `records` hold from now on, and add what is measured, as soon as it is.

        The records belong to this model with these options, weights and images: whoever hands them
        over sees to that. Models that say the same `memory` (a word, an attribute) have one place
        together, and have to put their options into the keys.
        """
        ...
