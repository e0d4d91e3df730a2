"""What every adapter must keep, whoever wrote it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hwnas.adapters import MatrixSlice, WeightAdapter
from hwnas.registry import adapters
from hwnas.testing.global_state import changes
from hwnas.testing.promises import Promise, broken

__all__ = ["ADAPTER_PROMISES", "AdapterTrial", "check_adapter"]

_WHOLE = (MatrixSlice(16, 24, 3), MatrixSlice(24, 48))  # a fused qkv and a plain layer
_PARTS = (MatrixSlice(8, 24, 3), MatrixSlice(16, 20))
_ROLES = ("additive", "transform")
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class AdapterTrial:
    """A kind of adapter with its options, and the matrices to try it on."""

    kind: Callable[..., Any]
    options: Mapping[str, Any]

    def fresh(self, whole: MatrixSlice, seed: int = 0) -> WeightAdapter:
        """A fresh adapter of a matrix, fitted to its weight."""
        rng = torch.Generator().manual_seed(seed)
        adapter: WeightAdapter = self.kind(whole, rng=rng, **self.options)
        adapter.fit(weight_of(whole))
        return adapter

    def trained(self, whole: MatrixSlice, seed: int = 0) -> WeightAdapter:
        """One whose parameters have moved as if it had been trained."""
        adapter, rng = self.fresh(whole, seed), torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for parameter in adapter.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.1)
        return adapter


def check_adapter(kind: str | Callable[..., Any], **options: Any) -> list[str]:
    """Return every promise that an adapter breaks, one sentence each; empty where all are kept.

    `kind` is its class, a registered name, `./file.py[:Name]` or `pkg.mod:Name`; the options are
    its own. Tried on a fused qkv and on a plain matrix. Promises: it is a `WeightAdapter` of a
    known role; a fresh one changes nothing; what it gives has the slice's shape; the delta of a
    slice is the slice of the delta; a generator decides; gradients reach all that it calls
    trainable; its state dict is all of it; weights and random state stay untouched.

    Raises:
        PluginError: nothing answers to the name.
    """
    plugin: Any = adapters.load(kind) if isinstance(kind, str) else kind
    return broken(ADAPTER_PROMISES, AdapterTrial(plugin, options))


def weight_of(whole: MatrixSlice) -> torch.Tensor:
    """The same random weight (O, I) each time."""
    return torch.randn(whole.shape, generator=torch.Generator().manual_seed(3))


def _largest(x: torch.Tensor) -> float:
    return float(x.detach().abs().max())


def _result(adapter: WeightAdapter, part: MatrixSlice) -> torch.Tensor:
    """The active part of the weight after the adapter."""
    weight = part.matrix(weight_of(adapter.whole))
    if adapter.role == "additive":
        return weight + adapter.delta(part)
    return adapter.transform(weight, part)


def _is_described(trial: AdapterTrial) -> Iterator[str]:
    adapter = trial.fresh(_WHOLE[0])
    if not isinstance(adapter, WeightAdapter):
        yield f"it is {type(adapter).__name__}, not a hwnas.adapters.WeightAdapter"
    elif adapter.role not in _ROLES:
        yield f"role is {adapter.role!r}, expected {' or '.join(_ROLES)}"
    json.dumps(dict(trial.options))


def _fresh_changes_nothing(trial: AdapterTrial) -> Iterator[str]:
    for whole in _WHOLE:
        found = _result(trial.fresh(whole), whole)
        error = _largest(found - weight_of(whole))
        if error > _TOLERANCE:
            yield f"a fresh adapter of {whole} changes the weight by up to {error:.3g}"


def _shapes(trial: AdapterTrial) -> Iterator[str]:
    for whole, part in zip(_WHOLE, _PARTS, strict=True):
        for size in (whole, part):
            found = _result(trial.trained(whole), size)
            if found.shape != size.shape or found.dtype != torch.float32:
                yield f"{size} gives {found.dtype} {tuple(found.shape)}, expected {size.shape}"
            elif not torch.isfinite(found).all():
                yield f"{size} gives values that are not finite"


def _slices(trial: AdapterTrial) -> Iterator[str]:
    for whole, part in zip(_WHOLE, _PARTS, strict=True):
        adapter = trial.trained(whole)
        if adapter.role != "additive":
            return
        error = _largest(adapter.delta(part) - part.matrix(adapter.delta(whole)))
        if error > _TOLERANCE:
            yield f"the delta of {part} differs from that slice of the delta by {error:.3g}"


def _generator_decides(trial: AdapterTrial) -> Iterator[str]:
    first, again = (trial.fresh(_WHOLE[0]).state_dict() for _ in range(2))
    if any(not torch.equal(first[name], again[name]) for name in first):
        yield "the same generator gives another adapter"
    yield from (f"it changes {what}" for what in changes(lambda: trial.fresh(_WHOLE[0])))


def _gradients(trial: AdapterTrial) -> Iterator[str]:
    for whole in _WHOLE:
        adapter = trial.trained(whole)
        groups = adapter.trainable_groups()
        listed = [id(p) for parameters in groups.values() for p in parameters]
        trained = {id(p): name for name, p in adapter.named_parameters() if p.requires_grad}
        if sorted(listed) != sorted(trained):
            yield "trainable_groups does not list each trainable parameter once"
        result = _result(adapter, whole)
        if not result.requires_grad:
            yield f"no gradient reaches an adapter of {whole}"
            return
        torch.autograd.backward((result * weight_of(whole)).sum())
        yield from (
            f"no gradient reaches {name}"
            for name, p in adapter.named_parameters()
            if p.requires_grad and (p.grad is None or not p.grad.any())
        )


def _is_its_state(trial: AdapterTrial) -> Iterator[str]:
    for whole in _WHOLE:
        adapter, other = trial.trained(whole), trial.fresh(whole, seed=5)
        other.load_state_dict(adapter.state_dict())
        if not torch.equal(_result(adapter, whole), _result(other, whole)):
            yield f"an adapter of {whole} loaded from its state dict gives something else"


def _leaves_weights_alone(trial: AdapterTrial) -> Iterator[str]:
    for whole in _WHOLE:
        adapter, weight = trial.trained(whole), weight_of(whole)
        kept = {name: value.clone() for name, value in adapter.state_dict().items()}
        with torch.no_grad():
            if adapter.role == "transform":
                adapter.transform(weight, whole)
            first, again = _result(adapter, whole), _result(adapter, whole)
        if not torch.equal(weight, weight_of(whole)):
            yield "transform changes the weight that it is given"
        if not torch.equal(first, again):
            yield "asked twice, it gives two results"
        if any(not torch.equal(kept[n], value) for n, value in adapter.state_dict().items()):
            yield "asking for its result changes its state"


ADAPTER_PROMISES: tuple[Promise[AdapterTrial], ...] = (
    Promise("description", _is_described),
    Promise("fresh changes nothing", _fresh_changes_nothing),
    Promise("shapes", _shapes),
    Promise("slices", _slices),
    Promise("a given generator decides", _generator_decides),
    Promise("gradients", _gradients),
    Promise("state dict", _is_its_state),
    Promise("leaves weights alone", _leaves_weights_alone),
)
