"""Hardware-aware neural architecture search with pluggable cost models.

`hwnas.search(...)` runs a search; the engine behind it is imported as
`from hwnas.search import ...` (`docs/decisions/0005` says how one name serves both).
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.workflows.search import search as search

__all__ = ["search"]


class _Package(ModuleType):
    """This package, on which `search` is always the function.

    Importing the subpackage `hwnas.search` would otherwise bind the name to a module. A property
    of the type goes before anything that the import system puts into the module.
    """

    @property
    def search(self) -> Any:
        from hwnas.workflows.search import search

        return search

    @search.setter
    def search(self, module: ModuleType) -> None:
        """Let the import system believe that it has bound the subpackage."""


sys.modules[__name__].__class__ = _Package
