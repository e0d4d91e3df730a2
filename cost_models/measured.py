"""The device in the loop: every design is compiled, run and timed; for those who want no predictor.

A design that the store of the device knows is not measured again, so a search that is resumed, or
repeated with the same store, gets the same numbers. One measurement takes seconds (compiling what
is new, then the protocol of the device profile), so give `--max-evaluations`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hwnas.config import make_measuring
from hwnas.cost import CostBatch, CostContext, Direction
from hwnas.cost.prompts import decoder_runs
from hwnas.errors import CostError
from hwnas.space import Arch, Archs

if TYPE_CHECKING:
    from hwnas.device import DeviceProfile
    from hwnas.measure.campaign import Campaign

__all__ = ["Measured"]


class Measured:
    """Measured milliseconds for one image and `prompts` prompts, batch of one.

    `runner`, `rpc`, `tracker`, `key` and `store` are those of `hwnas measure`. The value is the
    statistic of the device's protocol, and has no interval.

    Raises:
        CostError: no device was given, or `prompts` is not a whole number from 1.
        ConfigError: the way to reach the device makes no sense.
    """

    name = "measured"
    unit = "ms"
    direction: Direction = "min"
    fidelity = "measured"
    needs = ("device",)

    def __init__(
        self,
        context: CostContext,
        *,
        prompts: int = 1,
        runner: str = "tvm",
        rpc: str | None = None,
        tracker: str | None = None,
        key: str | None = None,
        store: str | None = None,
    ) -> None:
        self.prompts = decoder_runs("system", prompts, by=self.name)
        self._device: DeviceProfile = context.require("device", by=self.name)
        self._space = context.space
        self._measuring = make_measuring(
            f"cost model {self.name}", runner=runner, rpc=rpc, tracker=tracker, key=key, store=store
        )
        self._known: dict[str, float] = {}
        self._opened: tuple[Campaign, ExitStack] | None = None
        self.note = f"each design was run by {runner}"

    def evaluate(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """Return measured milliseconds, shape (n,).

        Raises:
            CostError: a design could not be measured; what was measured before it is in the store.
            DeviceError: the device cannot be reached.
            ArchError: an architecture is not one of the space.
        """
        out = np.empty(len(archs))
        for row, arch in enumerate(Archs.of(self._space, archs)):
            if arch.id not in self._known:
                self._known[arch.id] = self._measure(arch)
            out[row] = self._known[arch.id]
        return out

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the same without an interval; the store has the repeats."""
        value = self.evaluate(archs)
        inside = np.zeros(value.shape, np.bool_)
        version = f"measured-1 device={self._device.key} prompts={self.prompts}"
        return CostBatch(value, None, None, None, inside, "measured", self.unit, version)

    def close(self) -> None:
        """Give the device and the store back; the next evaluation opens them again."""
        if self._opened is not None:
            _, stack = self._opened
            self._opened = None
            stack.close()

    def _measure(self, arch: Arch) -> float:
        from hwnas.measure.items import network_item

        item = network_item(self._space, self._device, arch, prompts=self.prompts, picked="search")
        found = self._campaign().measure(item)
        if found.value_ms is None:
            raise CostError(
                f"design {arch.id} could not be measured on {self._device.key}: {found.message}"
            )
        return found.value_ms

    def _campaign(self) -> Campaign:
        if self._opened is None:
            from hwnas.measure.campaign import Campaign
            from hwnas.measure.connection import connect, open_store

            with ExitStack() as stack:
                store = stack.enter_context(open_store(self._measuring, self._device))
                connected = stack.enter_context(connect(self._measuring, self._device))
                campaign = Campaign(connected.runner, connected.label, store)
                self._opened = (campaign, stack.pop_all())
        return self._opened[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leave device and store behind; another process opens its own."""
        return self.__dict__ | {"_opened": None}
