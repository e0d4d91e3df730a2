"""The parts of ZiCo: one term a layer from the gradients, one charge a layer from its map."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.cost.lowering import lower
from hwnas.errors import CostError
from hwnas.space import Arch, SearchSpace
from hwnas.supernet.probing import Probe
from hwnas.supernet.probing.gradients import GradientMoments, loss_gradients
from hwnas.supernet.probing.layer_choice import choose_layers
from hwnas.workload.layers import LayerSpec

__all__ = ["MapOfLayer", "ZicoTerms", "charges", "zico_terms"]


@dataclass(frozen=True, slots=True)
class MapOfLayer:
    """A layer's output: the layer of the workload that has its positions, and its channels."""

    source: str
    channels: int


@dataclass(frozen=True, slots=True)
class ZicoTerms:
    """One probe's terms.

    Attributes:
        logs: log of the sum of ratios of each layer that counts.
        weights: Number of weights of each of them.
        maps: Output of each of them.
        capped: Weights whose ratio was cut off.
        skipped: Layers without a term.
    """

    logs: dict[str, float]
    weights: dict[str, int]
    maps: dict[str, MapOfLayer]
    capped: int
    skipped: tuple[str, ...]

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> ZicoTerms:
        """What `record` has kept."""
        maps = {name: MapOfLayer(*fields) for name, fields in record["maps"].items()}
        return cls(record["logs"], record["weights"], maps, record["capped"],
                   tuple(record["skipped"]))  # fmt: skip

    def record(self) -> dict[str, Any]:
        """Plain JSON that `of_record` reads."""
        maps = {name: [one.source, one.channels] for name, one in self.maps.items()}
        return {"logs": self.logs, "weights": self.weights, "maps": maps, "capped": self.capped,
                "skipped": list(self.skipped)}  # fmt: skip

    @property
    def zico(self) -> float:
        """The sum of the terms."""
        return sum(self.logs.values())

    @property
    def log_weights(self) -> float:
        """The score if every ratio were 1."""
        return sum(math.log(count) for count in self.weights.values())


def zico_terms(
    probe: Probe, batches: Sequence[Any], layers: re.Pattern[str], *, cap: float | None
) -> ZicoTerms:
    """The terms of a probe over its batches; ratios are cut off at `cap`.

    Weights whose gradient does not vary are left out, and so are layers that have no other.
    """
    chosen = choose_layers(probe, layers)
    moments = GradientMoments(chosen)
    for batch in batches:
        moments.add(loss_gradients(probe, batch, chosen))
    logs: dict[str, float] = {}
    capped = 0
    for place, layer in enumerate(chosen):
        deviation = moments.deviation(place)
        varies = deviation > 0
        ratios = moments.absolute(place)[varies] / deviation[varies]
        if cap is not None:
            capped += int((ratios > cap).sum())
            ratios = ratios.clamp(max=cap)
        total = float(ratios.sum())
        if total > 0:
            logs[layer.name] = math.log(total)
    kept = [layer for layer in chosen if layer.name in logs]
    return ZicoTerms(
        logs,
        {layer.name: layer.numel for layer in kept},
        {layer.name: MapOfLayer(layer.sized_by or layer.name, layer.channels) for layer in kept},
        capped,
        tuple(layer.name for layer in chosen if layer.name not in logs),
    )


def charges(space: SearchSpace, arch: Arch, maps: dict[str, MapOfLayer]) -> dict[str, float]:
    """log(positions / sqrt(channels)) of each layer's output, positions from the workload.

    Raises:
        CostError: the space has no layers, or none of that name.
    """
    workload = {layer.name: layer for layer in lower(space, arch).layers}
    unknown = [own.source for own in maps.values() if own.source not in workload]
    if unknown:
        raise CostError(
            f"arch {arch.id}: its workload has no layer {unknown[0]} ({len(unknown)} of "
            f"{len(maps)} are missing); give probed layers the workload's names, or name its "
            "layers in sized_by"
        )
    return {
        name: math.log(_positions(workload[own.source]) / math.sqrt(own.channels))
        for name, own in maps.items()
    }


def _positions(layer: LayerSpec) -> float:
    """Pixels or tokens of the output of a convolution, a linear layer or a norm."""
    if layer.kind not in ("conv", "dwconv", "linear", "norm"):
        raise CostError(
            f"layer {layer.name} of the workload is of kind {layer.kind}; expected conv, dwconv, "
            "linear or norm, whose shape says how many channels the output has"
        )
    return layer.out_elems / layer.shape[1 if layer.kind != "linear" else 2]
