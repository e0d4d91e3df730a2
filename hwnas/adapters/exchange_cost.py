"""Time and bytes of exchanging adapters in the weights of a model, several ways side by side.

Source of the question: Bhardwaj et al., "Sparse High Rank Adapters" (2024), section 3.2, which
times loading, fusing and unfusing of a LoRA against scattered writes. Ours leaves loading out:
adapters are in memory, and one is exchanged for another in one process. Their numbers are drawn;
what an exchange takes does not depend on them, but for the entries whose code stays.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from hwnas.adapters.attaching import SAM_LINEARS, Attached
from hwnas.adapters.exchanging import (
    Exchange,
    Pairs,
    Recomputed,
    Replaced,
    SparselyWritten,
    Subtracted,
    SummedToCopy,
)
from hwnas.adapters.kinds.lora import LoraAdapter
from hwnas.adapters.kinds.shira import ShiraAdapter
from hwnas.adapters.layer_quantizer import LayerQuantizer
from hwnas.adapters.switching import code_writes, sparse_deltas, weight_writes
from hwnas.quant.linear import integer_codes
from hwnas.quant.ranges import weight_scales

__all__ = ["ExchangeCost", "ExchangeSpec", "measure_exchanges"]

_SIZE = 0.05  # of an adapter's delta, relative to the norm of the weight
_AB = ("a", "b")
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class ExchangeSpec:
    """Adapters to exchange: SHiRA of `densities` by `mask`, and LoRA of `rank`.

    `bits` are widths of codes, beside float32; `rounds` are timed.
    """

    densities: tuple[float, ...] = (0.01, 0.02)
    rank: int = 8
    bits: tuple[int, ...] = (8, 4)
    mask: str = "magnitude"
    targets: str = SAM_LINEARS
    rounds: int = 20
    seed: int = 0


@dataclass(frozen=True, slots=True)
class ExchangeCost:
    """One way: bytes as of `Exchange`, processor seconds of each round, and what is left over.

    `bits` are those of the weights, 32 in floating point. `left_over` is the largest deviation
    from the base, in any round, after an adapter is put in, exchanged and taken out: of weights,
    or in steps of codes.
    """

    bits: int
    adapter: str
    way: str
    shipped_bytes: int
    written_bytes: int
    kept_bytes: int
    seconds: tuple[float, ...]
    left_over: float

    @property
    def median(self) -> float:
        """Seconds of the exchange in the middle."""
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """Tensors that are changed and what they were, and the ways to change them by adapter."""

    bits: int
    tensors: Tensors
    base: Tensors
    ways: Sequence[tuple[str, Exchange]]


def measure_exchanges(model: nn.Module, spec: ExchangeSpec) -> list[ExchangeCost]:
    """Exchange adapters on the linear layers of a model, in float32 and as codes.

    Adapters are left on the model; its weights stay as they are. The ways for one kind of weights
    take turns in one thread, each round in another order, on the same memory. LoRA by subtracting
    is the first of float32, and by recomputing the first of codes. The two SHiRA adapters of a
    density share no entries.

    Raises:
        ConfigError: no layer matches, or a density, a mask or a number of bits does not exist.
    """
    attached = Attached(model)
    for block, name in enumerate(_AB):
        attached.add(
            "lora", name=f"lora {name}", rank=spec.rank, targets=spec.targets,
            seed=spec.seed + block,
        )  # fmt: skip
        for number, density in enumerate(spec.densities):
            attached.add(
                "shira", name=f"shira {number} {name}", density=density, mask=spec.mask,
                block=block, targets=spec.targets, seed=spec.seed,
            )  # fmt: skip
    _fill(attached, spec.seed)
    attached.activate()
    weights = {path: layer.weight.detach() for path, layer in attached.layers.items()}
    with _one_thread():
        found = []
        for held in _kinds(attached, weights, spec):
            found += _measured(held, spec.rounds)
        return found


@torch.no_grad()
def _fill(attached: Attached, seed: int) -> None:
    """Give adapters values as if they were trained, of equal size."""
    rng = torch.Generator().manual_seed(seed)
    for name in attached.specs:
        for path, adapter in attached.adapters(name).items():
            assert isinstance(adapter, LoraAdapter | ShiraAdapter)
            values = adapter.B if isinstance(adapter, LoraAdapter) else adapter.values
            values.copy_(torch.randn(values.shape, generator=rng))
            layer = attached.layers[path]
            values.mul_(_SIZE * layer.weight.norm() / adapter.delta(layer.whole).norm())


def _pairs(attached: Attached, name: str) -> Pairs:
    found = {}
    for path, adapter in attached.adapters(name).items():
        assert isinstance(adapter, LoraAdapter)
        found[path] = (adapter.B.detach() * adapter.gamma, adapter.A.detach())
    return found


@torch.no_grad()
def _kinds(attached: Attached, base: Tensors, spec: ExchangeSpec) -> Iterator[_Held]:
    """Weights in floating point, then codes of each number of bits, with the ways of both."""
    tensors = {path: weight.clone() for path, weight in base.items()}
    lora, pairs = f"lora, rank {spec.rank}", {n: _pairs(attached, f"lora {n}") for n in _AB}
    deltas = {
        f"shira, {100 * density:.3g} %": {
            name: sparse_deltas(attached, f"shira {number} {name}") for name in _AB
        }
        for number, density in enumerate(spec.densities)
    }
    writes = {s: {n: weight_writes(base, d) for n, d in own.items()} for s, own in deltas.items()}
    yield _Held(
        32, tensors, base,
        [(lora, Subtracted(tensors, pairs)), (lora, SummedToCopy(tensors, base, pairs)),
         *((s, SparselyWritten(tensors, own)) for s, own in writes.items())],
    )  # fmt: skip
    for bits in spec.bits:
        scales = {path: weight_scales(weight, bits) for path, weight in base.items()}
        grids = {
            path: LayerQuantizer(scale, torch.tensor([1.0, 0.0]), bits, 8)
            for path, scale in scales.items()
        }
        before = _codes(base, scales, bits)
        codes = {path: code.clone() for path, code in before.items()}
        merged = {
            name: _codes({p: torch.addmm(base[p], *pair) for p, pair in own.items()}, scales, bits)
            for name, own in pairs.items()
        }
        of_codes = {
            s: {n: code_writes(base, d, grids) for n, d in own.items()} for s, own in deltas.items()
        }
        yield _Held(
            bits, codes, before,
            [(lora, Recomputed(codes, base, pairs, scales, bits)),
             (lora, Replaced(codes, before, merged)),
             *((s, SparselyWritten(codes, own)) for s, own in of_codes.items())],
        )  # fmt: skip


def _codes(weights: Mapping[str, torch.Tensor], scales: Tensors, bits: int) -> Tensors:
    return {path: integer_codes(w, scales[path], bits)[0] for path, w in weights.items()}


def _measured(held: _Held, rounds: int) -> list[ExchangeCost]:
    seconds: list[list[float]] = [[] for _ in held.ways]
    left = [0.0] * len(held.ways)
    for number in range(rounds + 1):  # the first one warms up
        for turn in range(len(held.ways)):
            at = (turn + number) % len(held.ways)
            _, exchange = held.ways[at]
            for path, tensor in held.tensors.items():
                tensor.copy_(held.base[path])
            exchange.enter("a")
            begun = time.process_time()
            exchange.enter("b")
            taken = time.process_time() - begun
            exchange.leave()
            left[at] = max(left[at], _deviation(held))
            if number:
                seconds[at].append(taken)
    return [
        ExchangeCost(
            held.bits, adapter, exchange.way, exchange.shipped_bytes, exchange.written_bytes,
            exchange.kept_bytes, tuple(taken), over,
        )
        for (adapter, exchange), taken, over in zip(held.ways, seconds, left, strict=True)
    ]  # fmt: skip


def _deviation(held: _Held) -> float:
    return max(
        float((tensor.float() - held.base[path].float()).abs().max())
        for path, tensor in held.tensors.items()
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within the block, processor time is the time of the exchange."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
