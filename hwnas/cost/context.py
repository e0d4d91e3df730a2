"""What a cost model may ask for when it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hwnas.cost.model import SupernetLike
from hwnas.cost.slot_index import SlotIndex
from hwnas.errors import CostError

if TYPE_CHECKING:
    from hwnas.device import DeviceProfile
    from hwnas.space import SearchSpace

_HOW_TO_PASS = {
    "device": "--device NAME (in Python device=...); `hwnas devices list` shows the names",
    "supernet": "--supernet PATH, or a space that names one (in Python supernet=...)",
    "data": "--data DIR with images and masks (in Python data=...)",
    "store": "a store of measurements (in Python store=...)",
}


@dataclass(frozen=True)
class CostContext:
    """The space that is searched and, where the user gave them, what else a model may need.

    `supernet` and `data` are functions without arguments, called when a model first asks, so that
    a search that needs no weights loads none. `seed` is for models that draw random numbers.
    """

    space: SearchSpace
    device: DeviceProfile | None = None
    supernet: Callable[[], SupernetLike] | None = None
    data: Callable[[], Any] | None = None
    store: Any = None
    seed: int = 0
    supernet_source: str | None = None
    data_source: str | None = None
    _loaded: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def require(self, name: str, *, by: str) -> Any:
        """Return `device`, `supernet`, `data` or `store`, loaded on first use.

        Raises:
            CostError: the user gave none; the message names the model `by`, or the command (words
                with a space), and what to pass.
        """
        asking = by if " " in by else f"cost model {by}"
        if name not in _HOW_TO_PASS:
            raise CostError(f"{asking} asks for {name!r}; known: {', '.join(_HOW_TO_PASS)}")
        if name not in self._loaded:
            value = getattr(self, name)
            if value is None:
                advice = f"pass {_HOW_TO_PASS[name]}"
                if name == "supernet" and self.supernet_source is not None:
                    advice = f"{self.space.name} names no builder that could read a file"
                raise CostError(f"{asking} needs a {name} and none was given; {advice}")
            on_demand = name in ("supernet", "data") and callable(value)
            self._loaded[name] = value() if on_demand else value
        return self._loaded[name]

    @property
    def slot_index(self) -> SlotIndex:
        """Index of archs into per-slot tables, shared by the models of this context."""
        if "slot_index" not in self._loaded:
            self._loaded["slot_index"] = SlotIndex(self.space)
        index: SlotIndex = self._loaded["slot_index"]
        return index

    def __getstate__(self) -> dict[str, Any]:
        """Leave behind what was loaded; another process loads its own."""
        return self.__dict__ | {"_loaded": {}}
