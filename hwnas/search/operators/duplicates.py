"""No architecture is proposed twice in a run."""

from __future__ import annotations

from hwnas.search.ledger import row_keys
from hwnas.space import Archs

__all__ = ["Seen"]


class Seen:
    """The architectures proposed so far, compared in canonical form.

    Two spellings of one network have the same canonical row, and so the same arch id.
    """

    def __init__(self) -> None:
        self._keys: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def new(self, archs: Archs, most: int) -> list[int]:
        """Return the positions of up to `most` architectures not seen before, and remember them."""
        found: list[int] = []
        for i, key in enumerate(row_keys(archs)):
            if len(found) == most:
                break
            if key not in self._keys:
                self._keys.add(key)
                found.append(i)
        return found
