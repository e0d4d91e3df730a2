"""Adapters on the linear layers of any model: attach, switch, merge, detach.

The words and the defaults of the arguments are those of huggingface/peft where it has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from hwnas.adapters.adapted_linear import AdaptedLinear
from hwnas.adapters.contract import ROLES, WeightAdapter
from hwnas.adapters.plugin import construct, resolve_kind
from hwnas.errors import ConfigError

__all__ = ["SAM_LINEARS", "SAM_QKV", "AdapterSpec", "Attached", "attach", "detach", "merge"]

SAM_LINEARS = r"image_encoder\.blocks\.\d+\.(attn\.(qkv|proj)|mlp\.(lin1|lin2))"
"""The four linear layers of every block of a `segment_anything` image encoder."""
SAM_QKV = r"image_encoder\.blocks\.\d+\.attn\.qkv"
_FUSED = re.compile(r"(.*\.)?qkv")


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """What one named adapter is: its kind, its options, and the layers that carry it."""

    kind: str
    options: Mapping[str, Any]
    layers: tuple[str, ...]


@dataclass(slots=True)
class Attached:
    """A model whose linear layers carry adapters.

    `layers` are the adapted layers by their names in the model, `specs` the adapters by theirs.
    """

    model: nn.Module
    layers: dict[str, AdaptedLinear] = field(default_factory=dict)
    specs: dict[str, AdapterSpec] = field(default_factory=dict)

    def add(
        self, kind: str = "lora", *, targets: str = SAM_LINEARS, name: str = "default",
        seed: int = 0, gradients: Mapping[str, torch.Tensor] | None = None, **options: Any,
    ) -> Attached:  # fmt: skip
        """Put fresh adapters on the layers whose whole name matches; they become the active ones.

        As `attach`, on a model that has some already.
        """
        if name in self.specs or not name or "." in name:
            why = "is attached already" if name in self.specs else "must not be empty or have dots"
            raise ConfigError(f"adapter {name!r} {why}; choose another name")
        plugin, registered = resolve_kind(kind)
        chosen = matching_linears(self.model, targets)
        rng = torch.Generator().manual_seed(seed)
        for path, layer in chosen.items():
            adapted = layer if isinstance(layer, AdaptedLinear) else _adapted(path, layer)
            adapter = construct(plugin, kind, adapted.whole, rng, options, roles=ROLES)
            gradient = None if gradients is None else gradients.get(path)
            if adapter.wants_gradient and gradient is None:
                raise ConfigError(
                    f"adapter {kind} chooses by gradients; give those of {path} (O, I), the mean "
                    "of their absolute values over some batches (`hwnas.adapters.mean_gradients`)"
                )
            adapter.fit(adapted.weight.detach(), gradient)
            adapted.adapters[name] = adapter.to(adapted.weight.device).train(adapted.training)
            _replace(self.model, path, adapted)
            self.layers[path] = adapted
        self.specs[name] = AdapterSpec(registered, dict(options), tuple(chosen))
        self.activate(name)
        return self

    def remove(self, name: str) -> None:
        """Take an adapter off; layers that carry no other are what they were before."""
        self._require(name)
        for path in self.specs.pop(name).layers:
            layer = self.layers[path]
            del layer.adapters[name]
            layer.active = tuple(other for other in layer.active if other != name)
            if not layer.adapters:
                _replace(self.model, path, layer.base)
                del self.layers[path]

    @property
    def active(self) -> tuple[str, ...]:
        """The names of the adapters that act."""
        return tuple(n for n in self.specs if any(n in a.active for a in self.layers.values()))

    def activate(self, *names: str) -> None:
        """Let the adapters of these names act, and no others; none gives the bare model."""
        self._require(*names)
        for layer in self.layers.values():
            layer.active = tuple(name for name in names if name in layer.adapters)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The bare model within the block."""
        before = {path: layer.active for path, layer in self.layers.items()}
        self.activate()
        try:
            yield
        finally:
            for path, names in before.items():
                self.layers[path].active = names

    def adapters(self, name: str) -> dict[str, WeightAdapter]:
        """The adapters of a name, by layer."""
        return {path: self.layers[path].adapter(name) for path in self.specs[name].layers}

    def _require(self, *names: str) -> None:
        unknown = [name for name in names if name not in self.specs]
        if unknown:
            raise ConfigError(
                f"no adapter {', '.join(unknown)}; attached are {', '.join(self.specs) or 'none'}"
            )

    def trainable_groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Trainable parameters of the active adapters with their names, by what they are."""
        names = {id(p): n for n, p in self.model.named_parameters()}
        groups: dict[str, list[tuple[str, nn.Parameter]]] = {}
        for name in self.active:
            for adapter in self.adapters(name).values():
                for group, found in adapter.trainable_groups().items():
                    groups.setdefault(group, []).extend((names[id(p)], p) for p in found)
        return groups


def attach(
    model: nn.Module, kind: str = "lora", *, targets: str = SAM_LINEARS, name: str = "default",
    seed: int = 0, gradients: Mapping[str, torch.Tensor] | None = None, **options: Any,
) -> Attached:  # fmt: skip
    """Put adapters on the linear layers of a model, which is changed in place and frozen.

    Args:
        model: Any module; a `segment_anything` model with the default `targets`.
        kind: A registered adapter, or `./file.py[:Name]`, or `pkg.mod:Name`.
        targets: Regular expression for the whole names of the layers. A layer called `qkv` is
            taken as three matrices one above the other.
        name: What to call it; a model may carry several.
        seed: Draws what is random in fresh adapters.
        gradients: For kinds that choose by them, (O, I) by layer.
        **options: Those of the kind.

    Raises:
        ConfigError: no layer matches, the name is taken, or gradients are missing.
        PluginError: there is no such adapter, or it does not take the options.
    """
    model.requires_grad_(False)
    found = Attached(model)
    return found.add(kind, targets=targets, name=name, seed=seed, gradients=gradients, **options)


def detach(attached: Attached) -> nn.Module:
    """The model as it was, to the last bit."""
    for path, layer in attached.layers.items():
        _replace(attached.model, path, layer.base)
    attached.layers, attached.specs = {}, {}
    return attached.model


@torch.no_grad()
def merge(attached: Attached, *names: str) -> nn.Module:
    """The model with adapters in its weights for good: those named, or the active ones.

    The others are dropped; the layers are ordinary ones again, the frozen weights are not
    changed but replaced.

    Raises:
        NotFoldable: one of them is no weight; nothing is changed then.
    """
    chosen = names or attached.active
    folded = {
        path: layer.folded_weight([n for n in chosen if n in layer.adapters])
        for path, layer in attached.layers.items()
    }
    for path, weight in folded.items():
        base = attached.layers[path].base
        plain = nn.Linear(base.in_features, base.out_features, base.bias is not None, "meta")
        plain.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        plain.bias = base.bias
        _replace(attached.model, path, plain.train(base.training))
    attached.layers, attached.specs = {}, {}
    return attached.model


def matching_linears(model: nn.Module, targets: str) -> dict[str, nn.Linear | AdaptedLinear]:
    """The linear layers, adapted ones included, whose whole name matches, in the model's order.

    Raises:
        ConfigError: `targets` is no regular expression, or matches no linear layer.
    """
    try:
        pattern = re.compile(targets)
    except re.error as error:
        raise ConfigError(f"targets {targets!r} is no regular expression: {error}") from error
    linears = {
        name: module for name, module in model.named_modules()
        if isinstance(module, nn.Linear | AdaptedLinear) and not name.endswith(".base")
    }  # fmt: skip
    found = {name: module for name, module in linears.items() if pattern.fullmatch(name)}
    if not found:
        raise ConfigError(
            f"targets {targets!r} matches none of the {len(linears)} linear layers; expected a "
            f"regular expression for whole names such as {', '.join(_some(linears))}"
        )
    return found


def _some(names: Sequence[str] | Mapping[str, object]) -> list[str]:
    listed = list(names)
    return [listed[i] for i in sorted({0, len(listed) // 2, len(listed) - 1}) if listed]


def _adapted(path: str, base: nn.Linear) -> AdaptedLinear:
    fused = bool(_FUSED.fullmatch(path)) and base.out_features % 3 == 0
    return AdaptedLinear(base, parts=3 if fused else 1).train(base.training)


def _replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
