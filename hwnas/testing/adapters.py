"""What every adapter must keep, whoever wrote it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hwnas.adapters import MatrixSlice, NotFoldable, WeightAdapter
from hwnas.adapters.contract import ROLES
from hwnas.registry import adapters
from hwnas.testing.global_state import changes
from hwnas.testing.promises import Promise, broken

__all__ = ["ADAPTER_PROMISES", "AdapterTrial", "check_adapter"]

_WHOLE = (MatrixSlice(16, 24, 3), MatrixSlice(24, 48))  # a fused qkv and a plain layer
_PARTS = (MatrixSlice(8, 24, 3), MatrixSlice(16, 20))
_LEADING = ((2, 16), (2, 4, 4))  # tokens of a square image, and images
_MANY = (64, 4, 4)  # so many that each of a few experts is chosen
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class AdapterTrial:
    """A kind of adapter with its options, and the matrices to try it on."""

    kind: Callable[..., Any]
    options: Mapping[str, Any]

    def fresh(self, whole: MatrixSlice, seed: int = 0) -> WeightAdapter:
        """A fresh adapter of a matrix, fitted to its weight, and to its gradient if it asks."""
        rng = _rng(seed)
        adapter: WeightAdapter = self.kind(whole, rng=rng, **self.options)
        adapter.fit(weight_of(whole), gradient_of(whole) if adapter.wants_gradient else None)
        return adapter

    def trained(self, whole: MatrixSlice, seed: int = 0) -> WeightAdapter:
        """One whose parameters have moved as if it had been trained."""
        adapter, rng = self.fresh(whole, seed), _rng(seed + 1)
        with torch.no_grad():
            for parameter in adapter.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn(parameter.shape, generator=rng), alpha=0.1)
        return adapter


def check_adapter(kind: str | Callable[..., Any], **options: Any) -> list[str]:
    """Return every promise that an adapter breaks, one sentence each; empty where all are kept.

    `kind` is its class, a registered name, `./file.py[:Name]` or `pkg.mod:Name`; the options are
    its own. Tried on a fused qkv and on a plain matrix; a branch on tokens (B, L, I) and on images
    (B, H, W, I). Promises: it is a `WeightAdapter` of a known role; `fit` leaves weight and
    gradient alone; a fresh one changes nothing; what it gives has the slice's shape; the delta of
    a slice is the slice of the delta; a generator decides; gradients reach all that it calls
    trainable; its state dict is all of it, and copies equal it; `fold` is the adapter or refuses;
    `product` is the product; weights, inputs and random state stay untouched.

    Raises:
        PluginError: nothing answers to the name.
    """
    plugin: Any = adapters.load(kind) if isinstance(kind, str) else kind
    return broken(ADAPTER_PROMISES, AdapterTrial(plugin, options))


def _rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weight_of(whole: MatrixSlice) -> torch.Tensor:
    """The same random weight (O, I) each time."""
    return torch.randn(whole.shape, generator=_rng(3))


def gradient_of(whole: MatrixSlice) -> torch.Tensor:
    """The same random sizes of a gradient (O, I) each time."""
    return torch.rand(whole.shape, generator=_rng(4))


def inputs_of(part: MatrixSlice, leading: tuple[int, ...] = _LEADING[1]) -> torch.Tensor:
    """The same random inputs (*leading, I) each time."""
    return torch.randn(*leading, part.inp, generator=_rng(6))


def _largest(x: torch.Tensor) -> float:
    return float(x.detach().abs().max())


def _result(
    adapter: WeightAdapter, part: MatrixSlice, leading: tuple[int, ...] = _LEADING[1]
) -> torch.Tensor:
    """The active part of the weight after the adapter; what a branch adds to the output."""
    if adapter.role == "branch":
        # a branch may draw noise in training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            return adapter.branch(inputs_of(part, leading), part)
    weight = part.matrix(weight_of(adapter.whole))
    if adapter.role == "additive":
        return weight + adapter.delta(part)
    return adapter.transform(weight, part)


def _results(adapter: WeightAdapter, part: MatrixSlice) -> Iterator[tuple[str, Any, Any]]:
    """What is asked for, the result, and the shape that it should have."""
    if adapter.role != "branch":
        yield f"{part}", _result(adapter, part), part.shape
        return
    for leading in _LEADING:
        expected = (*leading, part.shape[0])
        asked = f"{part} for x {(*leading, part.inp)}"
        yield asked, _result(adapter, part, leading), expected


def _is_described(trial: AdapterTrial) -> Iterator[str]:
    adapter = trial.fresh(_WHOLE[0])
    if not isinstance(adapter, WeightAdapter):
        yield f"it is {type(adapter).__name__}, not a hwnas.adapters.WeightAdapter"
    elif adapter.role not in ROLES:
        yield f"role is {adapter.role!r}, expected {', '.join(ROLES[:-1])} or {ROLES[-1]}"
    json.dumps(dict(trial.options))


def _fits(trial: AdapterTrial) -> Iterator[str]:
    for whole in _WHOLE:
        rng = _rng(0)
        adapter: WeightAdapter = trial.kind(whole, rng=rng, **trial.options)
        weight, gradient = weight_of(whole), gradient_of(whole)
        adapter.fit(weight, gradient)
        if not torch.equal(weight, weight_of(whole)):
            yield "fit changes the weight that it is shown"
        if not torch.equal(gradient, gradient_of(whole)):
            yield "fit changes the gradient that it is shown"


def _fresh_changes_nothing(trial: AdapterTrial) -> Iterator[str]:
    for whole in _WHOLE:
        adapter = trial.fresh(whole)
        before = 0 if adapter.role == "branch" else weight_of(whole)
        what = "output" if adapter.role == "branch" else "weight"
        for _, found, _ in _results(adapter, whole):
            error = _largest(found - before)
            if not error <= _TOLERANCE:
                yield f"a fresh adapter of {whole} changes the {what} by up to {error:.3g}"


def _shapes(trial: AdapterTrial) -> Iterator[str]:
    for whole, part in zip(_WHOLE, _PARTS, strict=True):
        adapter = trial.trained(whole)
        for size in (whole, part):
            for asked, found, expected in _results(adapter, size):
                if found.shape != expected or found.dtype != torch.float32:
                    yield f"{asked} gives {found.dtype} {tuple(found.shape)}, expected {expected}"
                elif not torch.isfinite(found).all():
                    yield f"{asked} gives values that are not finite"


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
        result = _result(adapter, whole, _MANY)
        if not result.requires_grad:
            yield f"no gradient reaches an adapter of {whole}"
            return
        branch = adapter.role == "branch"
        weighed = torch.randn(result.shape, generator=_rng(8)) if branch else weight_of(whole)
        loss = (result * weighed).sum()
        extra = adapter.auxiliary_loss()
        if extra is not None and (extra.ndim or not torch.isfinite(extra)):
            yield f"auxiliary_loss gives {extra.detach()}, expected one finite number"
            return
        torch.autograd.backward(loss if extra is None else loss + extra)
        yield from (
            f"no gradient reaches {name}"
            for name, p in adapter.named_parameters()
            if p.requires_grad and (p.grad is None or not p.grad.any())
        )


def _is_its_state(trial: AdapterTrial) -> Iterator[str]:
    for whole in _WHOLE:
        adapter, other = trial.trained(whole), trial.fresh(whole, seed=5)
        other.load_state_dict(adapter.state_dict())
        expected = _result(adapter, whole)
        if not torch.equal(expected, _result(other, whole)):
            yield f"an adapter of {whole} loaded from its state dict gives something else"
        if not torch.equal(expected, _result(copy.deepcopy(adapter), whole)):
            yield f"a copy of an adapter of {whole} gives something else"


def _folds_or_refuses(trial: AdapterTrial) -> Iterator[str]:
    for whole in _WHOLE:
        adapter = trial.trained(whole).eval()
        try:
            folded = adapter.fold()
        except NotFoldable as refusal:
            if adapter.role == "additive":
                yield "it is additive and refuses to fold, though its delta would do"
            if refusal.residual is not None and not 0 <= refusal.residual <= 1:
                yield f"a fold would lose {refusal.residual}; expected 0 to 1, or None"
            return
        if folded.shape != whole.shape:
            yield f"the fold of {whole} has shape {tuple(folded.shape)}, expected {whole.shape}"
        elif adapter.role == "additive":
            error = _largest(folded - adapter.delta(whole))
            if error > _TOLERANCE:
                yield f"the fold of {whole} differs from its delta by {error:.3g}"
        elif adapter.role == "branch":
            found = _result(adapter, whole)
            error = _largest(found - inputs_of(whole) @ folded.t())
            if error > _TOLERANCE * max(1.0, _largest(found)) * 10:
                yield (
                    f"the fold of {whole} gives other outputs than the branch, by up to "
                    f"{error:.3g}; raise NotFoldable where no weight does what it does"
                )


def _products(trial: AdapterTrial) -> Iterator[str]:
    for whole, part in zip(_WHOLE, _PARTS, strict=True):
        adapter = trial.trained(whole)
        if adapter.role != "additive" or not adapter.has_product:
            return
        for leading in (*_LEADING, (5,)):
            x = inputs_of(part, leading)
            expected = x @ adapter.delta(part).t()
            error = _largest(adapter.product(x, part) - expected)
            if error > _TOLERANCE * max(1.0, _largest(expected)) * 10:
                yield f"the product of {part} differs from x times its delta by {error:.3g}"


def _leaves_weights_alone(trial: AdapterTrial) -> Iterator[str]:
    for whole in _WHOLE:
        adapter, weight = trial.trained(whole).eval(), weight_of(whole)
        kept = {name: value.clone() for name, value in adapter.state_dict().items()}
        x = inputs_of(whole)
        with torch.no_grad():
            if adapter.role == "transform":
                adapter.transform(weight, whole)
            elif adapter.role == "branch":
                adapter.branch(x, whole)
            first, again = _result(adapter, whole), _result(adapter, whole)
        if not torch.equal(weight, weight_of(whole)):
            yield "transform changes the weight that it is given"
        if not torch.equal(x, inputs_of(whole)):
            yield "branch changes the input that it is given"
        if not torch.equal(first, again):
            yield "asked twice, it gives two results"
        if any(not torch.equal(kept[n], value) for n, value in adapter.state_dict().items()):
            yield "asking for its result changes its state"


ADAPTER_PROMISES: tuple[Promise[AdapterTrial], ...] = (
    Promise("description", _is_described),
    Promise("fit", _fits),
    Promise("fresh changes nothing", _fresh_changes_nothing),
    Promise("shapes", _shapes),
    Promise("slices", _slices),
    Promise("a given generator decides", _generator_decides),
    Promise("gradients", _gradients),
    Promise("state dict", _is_its_state),
    Promise("fold", _folds_or_refuses),
    Promise("product", _products),
    Promise("leaves weights alone", _leaves_weights_alone),
)
