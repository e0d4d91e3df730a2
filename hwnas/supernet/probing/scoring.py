"""Scores of architectures from probes: several seeds each, and each network once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch

from hwnas.cost import CostBatch, CostContext
from hwnas.data.scores import mean_with_error
from hwnas.errors import CostError
from hwnas.space import Arch, Archs
from hwnas.supernet.identity import supernet_identity
from hwnas.supernet.probing.probe import BatchSize, Probe, Probeable, Weights
from hwnas.supernet.probing.sources import probe_id, probeable, weight_seed

__all__ = ["ProbeScores", "estimate_seeds"]

T = TypeVar("T")


class ProbeScores(Generic[T]):
    """What `score(probe, batches, seed)` says of each arch, once for each seed of its weights.

    Inherited weights know no seed, so they are scored once. `size` None gives no batches, and
    asks for no data. Scores are kept: a network that was scored is not scored again.
    """

    def __init__(
        self, context: CostContext, score: Callable[[Probe, Sequence[Any], int], T], *, by: str,
        weights: Weights, seeds: int, size: BatchSize | None,
    ) -> None:  # fmt: skip
        self._context, self._score, self._by = context, score, by
        self._weights: Weights = weights
        self._seeds, self._size = seeds, size
        self._source: Probeable | None = None
        self._identity: str | None = None
        self._found: dict[str, list[T]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_source": None, "_identity": None}  # a worker loads its own

    @property
    def note(self) -> str:
        """What belongs to the number, in words."""
        words = [f"{self._weights} weights"]
        if self._weights == "fresh":
            words.append(f"mean of {self._seeds} draws" if self._seeds > 1 else "one draw")
        if self._size is not None:
            words.append(f"{self._size.batches} x {self._size.images} images")
        return ", ".join(words)

    @property
    def version(self) -> str:
        """What scores depend on besides the arch: options, seed, and the supernet's weights."""
        size = "" if self._size is None else f" images={self._size.batches}x{self._size.images}"
        return (
            f"weights={self._weights} seeds={self.repeats}{size} seed={self._context.seed} "
            f"supernet={self._identity}"
        )

    def of(self, arch: Arch) -> list[T]:
        """The scores of an arch, one for each seed."""
        source = self.source
        network = probe_id(source, arch)
        if network not in self._found:
            self._found[network] = [
                self._one(source, arch, network, i) for i in range(self.repeats)
            ]
        return self._found[network]

    @property
    def repeats(self) -> int:
        """How many scores an arch has."""
        return self._seeds if self._weights == "fresh" else 1

    @property
    def source(self) -> Probeable:
        """The supernet, loaded when first asked for."""
        if self._source is None:
            # A search may call from inside inference mode, whose tensors know no gradients.
            with torch.inference_mode(False):
                supernet = self._context.require("supernet", by=self._by)
                self._source = probeable(supernet, by=self._by)
            self._identity = supernet_identity(supernet)
        return self._source

    def _one(self, source: Probeable, arch: Arch, network: str, repeat: int) -> T:
        seed = weight_seed(network, self._context.seed, repeat)
        size = self._size
        batches: Sequence[Any] = ()
        data = None if size is None else self._context.require("data", by=self._by)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                if size is not None:
                    batches = source.probe_batches(arch, data, size)
                probe = source.probe(arch, weights=self._weights, seed=seed)
                return self._score(probe, batches, seed)
        except CostError as error:
            raise CostError(f"{self._by}: arch {arch.id}: {error}") from error


def estimate_seeds(
    archs: Archs, scores: Callable[[Arch], Sequence[float]], *, unit: str,
    version: Callable[[], str],
) -> CostBatch:  # fmt: skip
    """The mean of each arch's scores; its interval is one standard error over seeds."""
    means = [mean_with_error(scores(arch)) for arch in archs]
    return CostBatch.of_means(means, fidelity="proxy", unit=unit, model_version=version())
