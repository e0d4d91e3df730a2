"""Time of a network as the sum of its kernels' times, measured ones first.

A kernel that was not measured is guessed from those of its kind and data type that were:

    ln(time / roofline) ~ a + sum b_i ln(size_i)

by ridge regression on the sizes of its shape, which carries over what the roofline does not know
(tiles, caches, unpacking); the sizes are held within those measured. Without three measured ones of
its kind, it is its roofline estimate times what measured kernels of any kind take on average.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cost_models.latency_columns import LinearColumns
from cost_models.latency_linear import LinearFit
from cost_models.roofline_layers import LayerTimes, Rates
from hwnas.cost import CostContext, SlotTables
from hwnas.cost.lowering import lower
from hwnas.device import DeviceProfile
from hwnas.errors import CostError, DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.measurement import Measurement
from hwnas.space import Arch
from hwnas.workload.layers import LayerSpec, Workload
from hwnas.workload.table import LayerTable

__all__ = ["KernelColumns", "KernelTimes", "kernel_rows"]

Float = NDArray[np.float64]
_DRAWN = 200  # archs whose kernels say what the space contains
_FEWEST = 3
_MILLI = 1e3


@dataclass(frozen=True, eq=False)
class _Guess:
    """Regression for kernels of one kind, data type and number of sizes."""

    fit: LinearFit
    low: Float
    high: Float

    def ratio(self, kernel: Kernel) -> float:
        """Time over roofline."""
        sizes = np.clip(_sizes(kernel), self.low, self.high)
        return float(self.fit.predict(sizes[None])[0])


@dataclass(frozen=True, eq=False)
class KernelTimes:
    """Milliseconds of kernels.

    Attributes:
        measured: By `Kernel.key`.
        classes: `kind dtype` of every class of kernels that the space contains, sorted.
        usual: Measured time over roofline, the median over all kernels; 1 without any.
        rooflines: Roofline estimate of each measured kernel that the space contains.
    """

    measured: Mapping[str, float]
    classes: tuple[str, ...]
    usual: float
    rooflines: Mapping[str, float]
    _guesses: dict[str, _Guess] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._guesses.update(_guessed(self.measured, self.rooflines))

    @classmethod
    def fitted(cls, context: CostContext) -> Self | None:
        """Read the store of a context; None where it has no kernel of the device.

        Raises:
            DeviceError: the device cannot run a kernel of the space.
        """
        device: DeviceProfile = context.require("device", by="latency")
        measured = kernel_rows(context.store, device.fingerprint)
        if not measured:
            return None
        rooflines: dict[str, float] = {}
        classes: set[str] = set()
        space = context.space
        drawn = space.sample(np.random.default_rng(0), _DRAWN)
        for arch in (space.smallest(), space.largest(), *drawn):
            for step, ms in _steps(lower(space, arch).layers, device):
                rooflines[step.kernel.key] = ms
                classes.add(_class(step.kernel))
        known = {key: rooflines[key] for key in measured if key in rooflines}
        ratios = [measured[key] / ms for key, ms in known.items() if ms > 0]
        usual = float(np.median(ratios)) if ratios else 1.0
        return cls(measured, tuple(sorted(classes)), usual, known)

    def ms(self, kernel: Kernel, roofline_ms: float) -> tuple[float, bool]:
        """Return the time of a kernel and whether it was measured."""
        found = self.measured.get(kernel.key)
        if found is not None:
            return found, True
        guess = self._guesses.get(_family(kernel))
        ratio = self.usual if guess is None else guess.ratio(kernel)
        return roofline_ms * ratio, False

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays that `of_arrays` reads back."""
        keys, known = sorted(self.measured), sorted(self.rooflines)
        return {
            "keys": np.array(keys), "ms": np.array([self.measured[k] for k in keys]),
            "known": np.array(known, dtype=str),
            "roofline_ms": np.array([self.rooflines[k] for k in known], dtype=np.float64),
            "classes": np.array(self.classes), "usual": np.array(self.usual),
        }  # fmt: skip

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read `to_arrays` back."""
        measured = dict(zip(arrays["keys"].tolist(), arrays["ms"].tolist(), strict=True))
        known = dict(zip(arrays["known"].tolist(), arrays["roofline_ms"].tolist(), strict=True))
        return cls(measured, tuple(arrays["classes"].tolist()), float(arrays["usual"]), known)


class KernelColumns(LinearColumns):
    """Milliseconds of kernels by kind and data type, and how many of them run."""

    name = "sum of kernels"

    def __init__(self, context: CostContext, times: KernelTimes, *, prompts: int) -> None:
        self._times = times
        self._device: DeviceProfile = context.require("device", by="latency")
        self._prompts = prompts
        self._column = {name: i for i, name in enumerate(times.classes)}
        sums = [f"{name} ms" for name in (*times.classes, "other")]
        self.names: tuple[str, ...] = (*sums, "not measured ms", "kernels")
        self.prior: Float = np.array([*np.ones(len(sums)), 0.0, 0.0])
        price: Callable[..., Float] = self._price
        self._tables = SlotTables(context, price=price, width=len(self.names))

    def matrix(self, archs: Sequence[Arch]) -> Float:
        """Return the columns, shape (n, p)."""
        return self._tables.totals(archs)

    def _price(self, workloads: Sequence[tuple[LayerSpec, ...]]) -> Float:
        out = np.zeros((len(workloads), len(self.names)))
        for row, layers in zip(out, workloads, strict=True):
            for step, roofline_ms in _steps(layers, self._device):
                runs = self._prompts if step.per_prompt else 1
                ms, measured = self._times.ms(step.kernel, roofline_ms)
                row[self._column.get(_class(step.kernel), len(self._column))] += runs * ms
                row[-2] += 0.0 if measured else runs * ms
                row[-1] += runs
        return out


def kernel_rows(store: Iterable[Measurement] | None, fingerprint: str) -> dict[str, float]:
    """Return the time of each measured kernel of a device: the median of its rows."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in store or ():
        if row.subject == "kernel" and row.fingerprint == fingerprint and row.value_ms is not None:
            found[row.key].append(row.value_ms)
    return {key: float(np.median(values)) for key, values in sorted(found.items())}


def _steps(layers: Sequence[LayerSpec], device: DeviceProfile) -> list[tuple[Any, float]]:
    """Kernels that layers run as, each with the roofline of its layers in ms."""
    from hwnas.measure.lowering import steps_of

    if not layers:
        return []
    try:
        steps = steps_of(Workload(tuple(layers)), device)
    except DeviceError as error:
        raise CostError(f"latency: {error}") from error
    seconds = LayerTimes.of(LayerTable.of(layers), device).seconds(Rates(device, 0))
    of_layer = dict(zip((layer.name for layer in layers), seconds.tolist(), strict=True))
    return [(step, _MILLI * sum(of_layer[name] for name in step.layers)) for step in steps]


def _guessed(measured: Mapping[str, float], rooflines: Mapping[str, float]) -> dict[str, _Guess]:
    families: dict[str, list[tuple[Float, float]]] = defaultdict(list)
    for key in sorted(rooflines):
        kernel = Kernel.from_key(key)
        families[_family(kernel)].append((_sizes(kernel), measured[key] / rooflines[key]))
    out = {}
    for name, rows in families.items():
        if len(rows) >= _FEWEST:
            x, y = np.array([sizes for sizes, _ in rows]), np.array([ratio for _, ratio in rows])
            out[name] = _Guess(LinearFit.of(x, y, log=True), x.min(axis=0), x.max(axis=0))
    return out


def _class(kernel: Kernel) -> str:
    return f"{kernel.kind} {kernel.dtype}"


def _family(kernel: Kernel) -> str:
    return f"{_class(kernel)} {len(kernel.shape)}"


def _sizes(kernel: Kernel) -> Float:
    """Logarithms of the sizes, and of the bits of a weight."""
    out: Float = np.log(np.array([*kernel.shape, kernel.w_bits], dtype=np.float64).clip(min=0.5))
    return out
