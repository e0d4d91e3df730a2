"""Where fewer bits save time on a device, and where they only save BitOPs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hwnas.config import make_measuring
from hwnas.cost.lowering import lower
from hwnas.device import DeviceProfile, find
from hwnas.errors import ConfigError
from hwnas.measure.connection import check_reachable
from hwnas.measure.kernel import Kernel
from hwnas.measure.lowering import Step, steps_of
from hwnas.space import SearchSpace, load_space
from hwnas.space.axes import Axis, arch_with, axis_settings
from hwnas.workload.layers import FLOAT_BITS, Workload

if TYPE_CHECKING:
    from hwnas.measure.runners.bench import Bench
    from hwnas.measure.runners.seam import Network

__all__ = ["WIDTHS", "bench_bits"]

WIDTHS: Final = (8, 4, 2)
"""Uniform bit-widths that are compared with 32."""

_GIGA: Final = 1e9
_ROUNDS: Final = 20
_NARROW: Final = 16  # the space chooses the bits of a layer that has fewer
_ATTENTION: Final = ("attention", "cross_attention")

Row = dict[str, object]


def bench_bits(
    space: str | SearchSpace = "sam-vit-t",
    *,
    device: str | DeviceProfile = "host",
    freeze: Mapping[str, Any] | None = None,
    widths: Sequence[int] = WIDTHS,
    shapes: int = 4,
    prompts: int = 1,
    seconds: float = 3.0,
    cache: Path | None = None,
) -> list[Row]:
    """Time the largest design of a space, and parts of it, at uniform bits and in float32.

    Rows come in groups, one a subject: the `shapes` products with a weight that have the most
    multiplications, the largest windowed and the largest global attention, and the whole network
    with `prompts` prompts. A group takes turns in one process for about `seconds` seconds, at least
    five rounds; the least time counts. A layer that lacks a width takes the nearest one that it
    has; in float32 every layer has 32 bits. Widths that run as the same kernels share one time.

    BitOPs are those of the layers at the bits asked for, whatever the device makes of them.

    Raises:
        ConfigError: a width is no number of bits below 32, or given twice.
        DeviceError: the device is not this machine, or TVM is missing.
    """
    from hwnas.measure.runners.engines import our_engine

    if not widths or len(set(widths)) < len(widths) or not all(0 < b < 32 for b in widths):
        raise ConfigError(f"widths {list(widths)}: expected numbers of bits below 32, each once")
    profile = device if isinstance(device, DeviceProfile) else find(device)
    check_reachable(make_measuring(), profile, to="comparing bit-widths")
    nets = _lowered(load_space(space, freeze=freeze), widths)
    subjects = [*_parts(nets, profile, shapes), _whole(nets, profile, prompts)]
    engine = our_engine(profile.to_dict(), cache)
    return [row for subject in subjects for row in _rows(subject, engine, seconds)]


@dataclass(frozen=True)
class _Version:
    """A subject at one width: what is timed, its GBitOPs, and the arithmetic in words."""

    timed: Kernel | Network
    gbitops: float
    runs_as: str


@dataclass(frozen=True)
class _Subject:
    what: str
    versions: Mapping[int, _Version]


def _lowered(space: SearchSpace, widths: Sequence[int]) -> dict[int, Workload]:
    """The layers of the largest design by bits, float32 first."""
    bits = Axis("bits", "", "", tuple(g.name for g in space.genes if g.role == "bits"))
    narrow = {b: lower(space, arch_with(space, axis_settings(space, bits, b))) for b in widths}
    some = narrow[widths[0]]
    layers = tuple(
        replace(layer, w_bits=FLOAT_BITS, a_bits=FLOAT_BITS, out_bits=FLOAT_BITS)
        for layer in some.layers
    )
    return {FLOAT_BITS: replace(some, layers=layers), **narrow}


def _bit_operations(net: Workload) -> dict[str, float]:
    return dict(zip((x.name for x in net.layers), net.table().bit_operations(), strict=True))


def _parts(nets: Mapping[int, Workload], device: DeviceProfile, shapes: int) -> list[_Subject]:
    """The heaviest products, then a windowed and a global attention."""
    steps = {bits: {s.layers: s for s in steps_of(net, device)} for bits, net in nets.items()}
    bitops = {bits: _bit_operations(net) for bits, net in nets.items()}
    products, attentions = _heaviest(steps[FLOAT_BITS], nets)
    windowed = [s for s in attentions if s.kernel.kind == "attention" and s.kernel.shape[0] > 1]
    others = [s for s in attentions if s not in windowed]
    chosen = [*products[:shapes], *windowed[:1], *others[:1]]

    def subject(step: Step) -> _Subject:
        found = {
            bits: _Version(
                of[step.layers].kernel,
                sum(bitops[bits][name] for name in step.layers) / _GIGA,
                _arithmetic(of[step.layers].kernel),
            )
            for bits, of in steps.items()
            if step.layers in of
        }
        sizes = "x".join(map(str, step.kernel.shape))
        name = "windowed " if step in windowed else ""
        return _Subject(f"{name}{step.kernel.kind} {sizes}", found)

    return [subject(step) for step in chosen]


def _heaviest(
    steps: Mapping[tuple[str, ...], Step], nets: Mapping[int, Workload]
) -> tuple[list[Step], list[Step]]:
    """A step for each kernel whose bits are chosen, by falling MACs: products, and attentions."""
    *_, narrowest = nets.values()
    layers = {layer.name: layer for layer in narrowest.layers}
    macs: Counter[Kernel] = Counter()
    first: dict[Kernel, Step] = {}
    for step in steps.values():
        own = [layers[name] for name in step.layers]
        if any(layer.macs and min(layer.w_bits, layer.a_bits) < _NARROW for layer in own):
            macs[step.kernel] += sum(layer.macs for layer in own)
            first.setdefault(step.kernel, step)
    ordered = [first[kernel] for kernel, _ in macs.most_common()]
    attentions = [step for step in ordered if step.kernel.kind in _ATTENTION]
    return [step for step in ordered if step not in attentions], attentions


def _whole(nets: Mapping[int, Workload], device: DeviceProfile, prompts: int) -> _Subject:
    from hwnas.measure.runners.seam import Network

    versions = {}
    for bits, net in nets.items():
        steps = tuple(steps_of(net, device))
        table = net.table()
        bitops = float((table.bit_operations() * table.runs(prompts)).sum())
        subject = Network(f"uniform-{bits}", steps, prompts)
        versions[bits] = _Version(subject, bitops / _GIGA, _mostly(net, steps))
    return _Subject("whole network", versions)


def _arithmetic(kernel: Kernel) -> str:
    return f"{kernel.dtype} w{kernel.w_bits}a{kernel.a_bits}"


def _mostly(net: Workload, steps: Sequence[Step]) -> str:
    """The arithmetic that most MACs run as, with its share."""
    macs = {layer.name: layer.macs for layer in net.layers}
    shares: Counter[str] = Counter()
    for step in steps:
        shares[_arithmetic(step.kernel)] += sum(macs[name] for name in step.layers)
    (most, count), *_ = shares.most_common()
    return f"{most} for {count / max(1, shares.total()):.0%} of MACs"


def _rows(subject: _Subject, engine: Bench, seconds: float) -> list[Row]:
    from hwnas.measure.runners.engines import take_turns

    # Widths that run as the same kernels get one time, not two that differ by noise.
    keys = {bits: _kernels(version.timed) for bits, version in subject.versions.items()}
    with ExitStack() as stack:
        ready = {}
        for bits, version in subject.versions.items():
            if keys[bits] not in ready:
                ready[keys[bits]] = stack.enter_context(engine.ready(version.timed))
        best = take_turns(ready, _ROUNDS, seconds)
    plain_ms, plain = best[keys[FLOAT_BITS]], subject.versions[FLOAT_BITS]
    return [
        {
            "what": subject.what,
            "bits": bits,
            "runs as": version.runs_as,
            "ms": best[keys[bits]],
            "ms / fp32": best[keys[bits]] / plain_ms,
            "GBitOPs": version.gbitops,
            "GBitOPs / fp32": version.gbitops / plain.gbitops,
        }
        for bits, version in subject.versions.items()
    ]


def _kernels(timed: Kernel | Network) -> tuple[Kernel, ...]:
    return (timed,) if isinstance(timed, Kernel) else timed.kernels()
