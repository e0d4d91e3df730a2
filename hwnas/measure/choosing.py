"""What to measure: the kernels that a space can produce, and whole subnets.

Kernels come by expected gain: the share of time that a kernel takes in the subnets of the space,
times how little is known about it from those chosen before. Subnets are drawn at random, evenly
over the range of estimated latency, and in between come such that every option of every gene
occurs. Both orders are fixed by the seed, and a longer list begins with the shorter one: asking
for more goes on where the last campaign ended.

Source: `spec/cost-models.md` 5.2 (D-optimal start, then the widest intervals) in simple terms: the
spread is greedy, over the logarithms of MACs and bytes within a family of kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.workload.layers import LayerSpec, Workload

if TYPE_CHECKING:
    from hwnas.device import DeviceProfile
    from hwnas.space import Archs

__all__ = [
    "Census", "Picked", "StepLike", "choose_kernels", "choose_subnets", "most_uncertain",
    "take_census",
]  # fmt: skip

Float = NDArray[np.float64]
Picked = Literal["random", "cover", "uncertain", "verify", "search"]
"""Why a subnet was measured; only `random` ones may be held out to judge a predictor."""

_MILLI = 1e3
_GOLDEN = (5**0.5 - 1) / 2
_NOT_SEEN = 2.0  # what is gained by the first kernel of a family, beside one that is e times larger
_TWIN = 0.05  # ... and by one whose MACs and bytes are those of another


class StepLike(Protocol):
    """What is read of a step; those of `hwnas.measure.lowering` have it."""

    @property
    def kernel(self) -> Kernel: ...
    @property
    def layers(self) -> tuple[str, ...]: ...
    @property
    def per_prompt(self) -> bool: ...


@dataclass(frozen=True, eq=False)
class Census:
    """Which kernels many subnets consist of.

    Attributes:
        kernels: Each once, in the order of first occurrence, m of them.
        estimated_ms: Estimated time of one call, shape (m,).
        uses: Calls in a subnet, the mean over the subnets, shape (m,).
        log_sizes: Natural logarithms of 1 + MACs and 1 + bytes, shape (m, 2).
        subnet_ms: Estimated time of each subnet, shape (n,).
    """

    kernels: tuple[Kernel, ...]
    estimated_ms: Float
    uses: Float
    log_sizes: Float
    subnet_ms: Float


def take_census(
    lowered: Iterable[tuple[Workload, Sequence[StepLike]]],
    device: DeviceProfile,
    *,
    prompts: int = 1,
) -> Census:
    """Count the kernels of subnets, each given as its workload and the steps that it runs as.

    Times are a roofline of the profile: MACs at the attained peak of the kernel's arithmetic or
    bytes at the attained bandwidth, whichever takes longer, and a launch. They only weigh kernels
    against one another.
    """
    places: dict[Kernel, int] = {}
    sizes: list[tuple[float, float, float]] = []
    uses: list[float] = []
    subnet_ms = []
    for workload, steps in lowered:
        layers = {layer.name: layer for layer in workload.layers}
        total = 0.0
        for step in steps:
            if step.kernel not in places:
                places[step.kernel] = len(sizes)
                own = [layers[name] for name in step.layers if name in layers]
                sizes.append(_size(step.kernel, own, device))
                uses.append(0.0)
            place, runs = places[step.kernel], prompts if step.per_prompt else 1
            uses[place] += runs
            total += runs * sizes[place][0]
        subnet_ms.append(total)
    table = np.array(sizes, np.float64).reshape(len(sizes), 3)
    return Census(
        tuple(places),
        table[:, 0],
        np.array(uses) / max(1, len(subnet_ms)),
        np.log1p(table[:, 1:]),
        np.array(subnet_ms),
    )


def _size(
    kernel: Kernel, layers: Sequence[LayerSpec], device: DeviceProfile
) -> tuple[float, float, float]:
    """Estimated ms, MACs and bytes of one call."""
    macs = float(sum(layer.macs for layer in layers))
    moved = sum(_bits_moved(layer) for layer in layers) / 8.0
    seconds = moved / (device.bandwidth_bytes_per_s * device.efficiency("memory"))
    if macs:
        kind = max(layers, key=lambda layer: layer.macs).kind
        try:
            rate = device.peak_macs_per_s(kernel.dtype) * device.efficiency(kind, kernel.dtype)
        except DeviceError:  # arithmetic that the profile gives no peak for: the bytes have to do
            rate = np.inf
        seconds = max(seconds, macs / rate)
    return (seconds + device.launch_s) * _MILLI, macs, moved


def _bits_moved(layer: LayerSpec) -> int:
    return (
        (layer.weight_elems + layer.extra_in_elems) * layer.w_bits
        + layer.in_elems * layer.a_bits
        + layer.out_elems * layer.out_bits
    )


def choose_kernels(census: Census, n: int | None = None) -> tuple[Kernel, ...]:
    """The `n` kernels (all without it) by expected gain, the largest first.

    gain = uses x estimated time x ignorance. Ignorance is `_NOT_SEEN` where nothing of the family
    (kind, arithmetic, bits) is chosen yet, else the distance to the nearest of it in the
    logarithms of MACs and bytes, between `_TWIN` and 1.
    """
    count = len(census.kernels) if n is None else min(n, len(census.kernels))
    families = {(k.kind, k.dtype, k.w_bits, k.a_bits) for k in census.kernels}
    codes = {family: code for code, family in enumerate(sorted(families))}
    family = np.array([codes[k.kind, k.dtype, k.w_bits, k.a_bits] for k in census.kernels])
    weight = census.uses * census.estimated_ms
    ignorance = np.full(len(census.kernels), _NOT_SEEN)
    left = np.ones(len(census.kernels), np.bool_)
    chosen: list[int] = []
    for _ in range(count):
        best = int(np.argmax(np.where(left, weight * ignorance, -1.0)))
        left[best] = False
        chosen.append(best)
        kin = family == family[best]
        far = np.linalg.norm(census.log_sizes[kin] - census.log_sizes[best], axis=1)
        ignorance[kin] = np.minimum(ignorance[kin], np.clip(far, _TWIN, 1.0))
    return tuple(census.kernels[i] for i in chosen)


def choose_subnets(
    pool: Archs, estimated_ms: Float, n: int, *, seed: int = 0
) -> list[tuple[int, Picked]]:
    """Rows of `pool` to measure, each with why: `random` and `cover`, taking turns.

    `pool` holds random subnets and `estimated_ms` (n,) their times. The random ones are drawn
    evenly over the range of time (a golden-ratio sequence over its ranks, begun at random), so
    that each subnet of the pool is as likely as any other. Those that `cover` are taken until
    every option that occurs in the pool has been measured; they are no fair sample.
    """
    draws = _spread(estimated_ms, np.random.default_rng(seed))
    covers = _covering(pool.matrix)
    taken: dict[int, Picked] = {}
    while len(taken) < min(n, len(pool)):
        turn = covers if len(taken) % 2 == 0 else draws
        row = next((r for r in turn if r not in taken), None)
        if row is None:  # every option has been seen; from here on all are random
            turn, row = draws, next(r for r in draws if r not in taken)
        taken[row] = "cover" if turn is covers else "random"
    return list(taken.items())


def most_uncertain(archs: Archs, lo: Float, hi: Float, n: int) -> list[int]:
    """Rows with the widest intervals as a ratio, no two of them nearly the same design.

    Two are nearly the same where they differ in less than a tenth of their genes; such ones are
    taken only where there are not enough others.
    """
    order = np.argsort(-np.log(hi / lo), kind="stable")
    matrix = archs.matrix
    taken: list[int] = []
    for row in order.tolist():
        if len(taken) == n:
            break
        near = (matrix[taken] != matrix[row]).mean(axis=1) < 0.1 if taken else np.zeros(0, bool)
        if not near.any():
            taken.append(row)
    rest = (row for row in order.tolist() if row not in taken)
    taken += [row for row, _ in zip(rest, range(n - len(taken)), strict=False)]
    return taken


def _spread(estimated_ms: Float, rng: np.random.Generator) -> Iterator[int]:
    """Every row once, any beginning of the sequence evenly spread over the ranks of time."""
    ranks = np.argsort(estimated_ms, kind="stable")
    free = list(range(len(ranks)))
    start = rng.random()
    for step in range(len(ranks)):
        at = (start + step * _GOLDEN) % 1.0 * len(ranks)
        nearest = int(np.argmin(np.abs(np.array(free) + 0.5 - at)))
        yield int(ranks[free.pop(nearest)])


def _covering(matrix: NDArray[np.int16]) -> Iterator[int]:
    """Rows that bring the most options not seen before, until all have been seen."""
    options = matrix.max(axis=0) + 1
    offsets = np.concatenate([[0], np.cumsum(options)[:-1]])
    seen = np.zeros(int(options.sum()), np.bool_)
    codes = np.where(matrix >= 0, matrix + offsets, -1)
    while True:
        new = np.where(codes >= 0, ~seen[codes], False).sum(axis=1)
        best = int(np.argmax(new))
        if new[best] == 0:
            return
        seen[codes[best][codes[best] >= 0]] = True
        yield best
