"""One architecture: a canonical point of a space."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from hwnas.space.declarations import Scalar

_ID_DIGITS = 12


@dataclass(frozen=True, eq=False)
class Arch:
    """A frozen, hashable, canonical point of the space named `space`.

    `genes` maps names to values and holds active genes only, so that one network has one spelling
    and one `id`. Made by a `SearchSpace` (`arch`, `sample`, `decode`, …), which checks it; the
    constructor checks nothing.
    """

    space: str
    genes: Mapping[str, Scalar]

    def __post_init__(self) -> None:
        object.__setattr__(self, "genes", MappingProxyType(dict(self.genes)))

    @cached_property
    def id(self) -> str:
        """Stable name: 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
        return digest(self.to_json())

    def __getitem__(self, name: str) -> Scalar:
        return self.genes[name]

    def get(self, name: str, default: Scalar | None = None) -> Scalar | None:
        """Return the value of a gene, or `default` where the gene is absent."""
        return self.genes.get(name, default)

    def to_dict(self) -> dict[str, Any]:
        """Return `{"space": name, "genes": {name: value}}`, genes sorted by name."""
        return {"space": self.space, "genes": dict(sorted(self.genes.items()))}

    def to_json(self) -> str:
        """Return the canonical JSON: keys sorted, no blanks, ASCII."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Arch):
            return NotImplemented
        return self.space == other.space and self.genes == other.genes

    def __hash__(self) -> int:
        return hash((self.space, frozenset(self.genes.items())))

    def __reduce__(self) -> tuple[type[Arch], tuple[str, dict[str, Scalar]]]:
        return Arch, (self.space, dict(self.genes))  # a mapping proxy does not pickle


def digest(canonical_json: str) -> str:
    """Return the id that belongs to an arch's canonical JSON."""
    return hashlib.sha256(canonical_json.encode("ascii")).hexdigest()[:_ID_DIGITS]
