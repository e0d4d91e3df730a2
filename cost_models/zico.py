"""ZiCo and ZiCo-BC: how large and how steady the gradients of an untrained network are.

Sources: Li et al., "ZiCo" (ICLR 2023), equation 15, in the reading of its released code: the
deviation is that of the signed gradient, and layers are convolutions and linear layers. Lee et al.,
"ZiCo-BC" (ICCV workshops 2023), equation 2. Over N fixed batches, for the weights w of layer l:

    ZiCo    = sum_l log sum_w mean |g(w)| / deviation g(w)
    ZiCo-BC = ZiCo - beta * sum_l log(positions_l / sqrt(channels_l))      of the layer's output

We differ by default (`robust`): four batches instead of two, ratios of at most 1000, and the mean
over three draws of the weights; with two batches the ratio has no mean, and nothing moves the score
more than the draw of the weights. A q, k, v layer counts as three; positions are those of the
whole token map, also where attention works in windows.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cost_models.zico_terms import ZicoTerms, charges, zico_terms
from hwnas.cost import CostBatch, CostContext, Direction
from hwnas.cost.remembering import Records
from hwnas.data.scores import mean_with_error
from hwnas.errors import CostError, HwnasError
from hwnas.space import Arch, Archs
from hwnas.supernet.probing import BatchSize, Probe, ProbeScores, Weights, estimate_seeds
from hwnas.supernet.probing.layer_choice import option_problems

__all__ = ["Mode", "Zico", "ZicoBc", "ZicoDiagnosis"]

Float = NDArray[np.float64]
Mode = Literal["robust", "paper"]

_LOG = logging.getLogger(__name__)
_CAP = 1e3
_BATCHES = {"robust": 4, "paper": 2}
_SEEDS = {"robust": 3, "paper": 1}


@dataclass(frozen=True, slots=True)
class ZicoDiagnosis:
    """What a score is made of; sums over layers, means over seeds, in nats.

    Attributes:
        score: What `evaluate` gives.
        standard_error: Over seeds; None for a single one.
        zico: The score without the correction.
        penalty: sum log(positions / sqrt(channels)), not yet times beta; None for a space
            without layers.
        log_weights: sum log P over the layers' numbers of weights P: what counting them scores.
        mean_ratio: zico - log_weights, the score with the size taken out.
        capped: Share of the weights whose ratio was cut off.
        layers: log of the sum of ratios of each layer.
        skipped: Layers that were left out, in mode `paper`.
    """

    score: float
    standard_error: float | None
    zico: float
    penalty: float | None
    log_weights: float
    mean_ratio: float
    capped: float
    layers: dict[str, float]
    skipped: tuple[str, ...]


class Zico:
    """ZiCo of a subnet in floating point; archs that differ in bits alone score alike.

    `mode` is `robust`, or `paper`: N = 2, no cap, one draw, residual links removed where the
    network offers it, and layers without variance skipped with a warning. `weights` are `fresh`
    (Kaiming, drawn by network and seed), or `inherited` from the supernet; those lean towards
    counting weights (`diagnose`). `beta` is 1 for classification and detection, 2 for
    segmentation. `batches` is N, 4 or more in mode robust; `seeds` counts draws of fresh weights,
    over which the interval is one standard error. `layers` is a regular expression for the whole
    names of the layers that count.

    Raises:
        CostError: an option makes no sense, or the context has no supernet or no data.
    """

    name = "zico"
    unit = "nats"
    direction: Direction = "max"
    fidelity = "proxy"
    needs = ("supernet", "data")
    memory = "zico"  # what is kept of gradients serves zico and zico_bc alike
    default_beta = 0.0

    def __init__(
        self, context: CostContext, *, mode: Mode = "robust", weights: Weights = "fresh",
        beta: float | None = None, batches: int | None = None, batch_images: int = 8,
        seeds: int | None = None, layers: str = ".*",
    ) -> None:  # fmt: skip
        problems = [] if mode in _BATCHES else [f"mode is {mode!r}, expected robust or paper"]
        least = _BATCHES.get(mode, 2)
        batches = least if batches is None else batches
        if batches < least:
            problems.append(f"batches is {batches}, expected {least} or more in mode {mode}")
        beta = self.default_beta if beta is None else beta
        if not 0 <= beta < math.inf:
            problems.append(f"beta is {beta}, expected 0 or more")
        problems += option_problems(
            weights=weights, seeds=seeds, batch_images=batch_images, layers=layers
        )
        if problems:
            raise CostError(f"{self.name}: " + "; ".join(problems))
        self._context, self._mode, self._beta = context, mode, float(beta)
        self._layers, self._warned = re.compile(layers), False
        self._records: Records | None = None
        self._key = f"{mode} {weights} {batches}x{batch_images} {layers}"
        self._scores = ProbeScores(
            context, self._terms, by=self.name, weights=weights,
            seeds=_SEEDS[mode] if seeds is None else seeds,
            size=BatchSize(batches, batch_images, context.seed),
        )  # fmt: skip

    def remember_in(self, records: Records) -> None:
        """Take the terms of networks from `records`, and add those of each as it is probed."""
        self._records = records

    @property
    def note(self) -> str:
        """What belongs to the number."""
        return f"mode {self._mode}, beta {self._beta:g}, {self._scores.note}"

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        """Return the scores, shape (n,)."""
        return self.estimate(archs).value

    def estimate(self, archs: Sequence[Arch]) -> CostBatch:
        """Return the means over seeds, with one standard error to either side."""
        own = Archs.of(self._context.space, archs)
        return estimate_seeds(own, self._of_seeds, unit=self.unit, version=self._version)

    def breakdown(self, arch: Arch) -> dict[str, float]:
        """Return what each part of the network adds to the score."""
        (own,) = Archs.of(self._context.space, [arch])
        terms = self._scores.of(own)
        parts: dict[str, float] = {}
        for one in terms:
            charged = self._charges(own, one)
            for name, value in one.logs.items():
                part = name.rpartition(".")[0] or name
                own_share = (value - self._beta * charged[name]) / len(terms)
                parts[part] = parts.get(part, 0.0) + own_share
        return parts

    def diagnose(self, arch: Arch) -> ZicoDiagnosis:
        """Return what the score of one arch is made of."""
        (own,) = Archs.of(self._context.space, [arch])
        terms = self._scores.of(own)
        score, error = mean_with_error(self._of_seeds(own))
        zico = _mean(one.zico for one in terms)
        size = _mean(one.log_weights for one in terms)
        counted = sum(sum(one.weights.values()) for one in terms)
        names = dict.fromkeys(name for one in terms for name in one.logs)
        return ZicoDiagnosis(
            score=score,
            standard_error=error,
            zico=zico,
            penalty=self._penalty(own, terms),
            log_weights=size,
            mean_ratio=zico - size,
            capped=sum(one.capped for one in terms) / counted,
            layers={n: _mean(one.logs[n] for one in terms if n in one.logs) for n in names},
            skipped=tuple(dict.fromkeys(name for one in terms for name in one.skipped)),
        )

    def _of_seeds(self, arch: Arch) -> list[float]:
        found = []
        for one in self._scores.of(arch):
            charged = self._charges(arch, one)
            found.append(one.zico - self._beta * sum(charged.values()))
        return found

    def _terms(self, probe: Probe, batches: Sequence[Any], seed: int) -> ZicoTerms:
        key = f"{self._key}/{seed}"  # the seed has drawn the weights, by network and repeat
        if self._records is not None and key in self._records:
            return ZicoTerms.of_record(self._records[key])
        terms = self._measured(probe, batches)
        if self._records is not None:
            self._records.add(key, terms.record())
        return terms

    def _measured(self, probe: Probe, batches: Sequence[Any]) -> ZicoTerms:
        robust = self._mode == "robust"
        if not robust and probe.remove_residuals is not None:
            probe.remove_residuals()
        terms = zico_terms(probe, batches, self._layers, cap=_CAP if robust else None)
        if terms.skipped:
            more = f" and {len(terms.skipped) - 1} more" if len(terms.skipped) > 1 else ""
            found = (
                f"layer {terms.skipped[0]}{more} has no gradient variance over {len(batches)} "
                "batches"
            )
            if robust or not terms.logs:
                raise CostError(f"{found}; give images that differ, or leave it out by layers=")
            _LOG.warning("%s: %s; skipped", self.name, found)
        return terms

    def _charges(self, arch: Arch, terms: ZicoTerms) -> dict[str, float]:
        """The charge of each layer; zeros without asking the workload where they do not count."""
        if not self._beta:
            return dict.fromkeys(terms.maps, 0.0)
        try:
            found = charges(self._context.space, arch, terms.maps)
        except HwnasError as error:
            raise CostError(f"{self.name}: {error}") from error
        rewarded = [name for name, charge in found.items() if charge < 0]
        if rewarded and not self._warned:
            self._warned = True  # small maps do it to every arch
            _LOG.warning(
                "%s: arch %s: the correction rewards %d layers, first %s: its output has fewer "
                "positions than the root of its channels; the same may hold of other archs",
                self.name, arch.id, len(rewarded), rewarded[0],
            )  # fmt: skip
        return found

    def _penalty(self, arch: Arch, terms: Sequence[ZicoTerms]) -> float | None:
        space = self._context.space
        try:
            return _mean(sum(charges(space, arch, one.maps).values()) for one in terms)
        except HwnasError:
            if self._beta:
                raise
            return None

    def _version(self) -> str:
        options = f"{self._mode} beta={self._beta:g} layers={self._layers.pattern}"
        return f"{self.name}-1 {options} {self._scores.version}"


class ZicoBc(Zico):
    """ZiCo-BC of a subnet: ZiCo with `beta` 2 unless told otherwise.

    For networks of one layout, where repeats, widths and kernels vary; it cannot arbitrate between
    inputs of different size.
    """

    name = "zico_bc"
    default_beta = 2.0


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))
