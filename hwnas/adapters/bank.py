"""All adapters of a supernet: one for each adapted layer and path of the layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Self, cast

import torch
from torch import nn

from hwnas.adapters.contract import MatrixSlice, Role, WeightAdapter
from hwnas.adapters.layout import Layout, path_of
from hwnas.adapters.plugin import construct, resolve_kind
from hwnas.errors import CheckpointError, ConfigError, PluginError
from hwnas.registry import adapters as registry

__all__ = ["MERGED", "AdapterBank"]

MERGED: tuple[Role, ...] = ("additive", "transform")
"""What a quantized weight can take in, in merge order; an elastic layer has no branches."""


class AdapterBank(nn.Module):
    """Adapters by layer (`blocks.3.qkv`) and path (`base`, `b2`).

    Args:
        layers: The whole matrix of each adapted layer.
        layout: Which paths are active at which bits.
        kind: Name of a registered adapter, or `./file.py[:Name]`, or `pkg.mod:Name`.
        options: Options of the kind, as JSON.
        rng: Source of the random numbers of fresh adapters.

    Raises:
        PluginError: nothing answers to `kind`, it has no registered name, or it does not take
            the options.
    """

    def __init__(
        self,
        layers: Mapping[str, MatrixSlice],
        layout: Layout,
        *,
        rng: torch.Generator,
        kind: str = "lora",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.layers, self.layout = dict(layers), layout
        plugin, self.kind = resolve_kind(kind)
        self.options = dict(options or {})
        self.by_layer = nn.ModuleDict()
        for layer, whole in self.layers.items():
            paths = {
                path: construct(plugin, kind, whole, rng, self.options, roles=MERGED)
                for path in layout.every_path
            }
            # torch forbids dots in module names
            self.by_layer[layer.replace(".", "/")] = nn.ModuleDict(paths)

    def paths(self, layer: str, w_bits: int, a_bits: int) -> tuple[str, ...]:
        """The active paths of a layer, none for one without adapters."""
        return self.layout.paths(w_bits, a_bits) if layer in self.layers else ()

    def adapter(self, layer: str, path: str) -> WeightAdapter:
        """The adapter of one layer and path."""
        paths = cast(nn.ModuleDict, self.by_layer[layer.replace(".", "/")])
        return cast(WeightAdapter, paths[path])

    def active(self, layer: str, w_bits: int, a_bits: int) -> tuple[WeightAdapter, ...]:
        """The active adapters of a layer in merge order: additive ones, then transforms."""
        found = [self.adapter(layer, path) for path in self.paths(layer, w_bits, a_bits)]
        return tuple(sorted(found, key=lambda adapter: MERGED.index(adapter.role)))

    def trained(self, layer: str, w_bits: int, a_bits: int) -> tuple[nn.Parameter, ...]:
        """The parameters that a layer of these bits gives gradients to."""
        return tuple(
            parameter
            for path in self.paths(layer, w_bits, a_bits)
            if not self.layout.detaches(path, w_bits, a_bits)
            for parameter in self.adapter(layer, path).parameters()
            if parameter.requires_grad
        )

    def delta(self, layer: str, w_bits: int, a_bits: int, part: MatrixSlice) -> torch.Tensor | None:
        """Sum of the active deltas at a slice; None where no additive adapter is active."""
        total: torch.Tensor | None = None
        for path in self.paths(layer, w_bits, a_bits):
            adapter = self.adapter(layer, path)
            if adapter.role != "additive":
                continue
            delta = adapter.delta(part)
            if self.layout.detaches(path, w_bits, a_bits):
                delta = delta.detach()
            total = delta if total is None else total + delta
        return total

    def merge(
        self, layer: str, weight: torch.Tensor, w_bits: int, a_bits: int, part: MatrixSlice
    ) -> torch.Tensor:
        """The weight (O, I) of a slice with everything active merged into it; a new tensor."""
        delta = self.delta(layer, w_bits, a_bits, part)
        merged = weight if delta is None else weight + delta
        for adapter in self.active(layer, w_bits, a_bits):
            if adapter.role == "transform":
                merged = adapter.transform(merged, part)
        return merged

    def fit(self, weights: Mapping[str, torch.Tensor]) -> Self:
        """Show each fresh adapter the frozen weight (O, I) of its layer."""
        for layer in self.layers:
            for path in self.layout.every_path:
                self.adapter(layer, path).fit(weights[layer])
        return self

    @torch.no_grad()
    def inherit(self, to_bits: int, from_bits: int) -> bool:
        """Start the path of one bit-width from that of another, where both have one.

        Returns whether they have; paths that are shared have nothing to inherit. Prepared
        weights of a supernet are stale afterwards (`ElasticEncoder.forget`).
        """
        to, source = path_of(to_bits), path_of(from_bits)
        if not {to, source} <= set(self.layout.every_path):
            return False
        for layer in self.layers:
            self.adapter(layer, to).load_state_dict(self.adapter(layer, source).state_dict())
        return True

    def trainable_groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Trainable parameters with their names, by what they are (`weights` and the like)."""
        names = {id(parameter): name for name, parameter in self.named_parameters()}
        groups: dict[str, list[tuple[str, nn.Parameter]]] = {}
        for layer, path in self._places():
            for group, parameters in self.adapter(layer, path).trainable_groups().items():
                groups.setdefault(group, []).extend((names[id(p)], p) for p in parameters)
        return groups

    def tensors(self) -> dict[str, torch.Tensor]:
        """Detached copies of everything that adapters keep, by `LAYER.PATH.NAME`."""
        return {
            f"{layer}.{path}.{name}": value.detach().clone()
            for layer, path in self._places()
            for name, value in self.adapter(layer, path).state_dict().items()
        }

    @torch.no_grad()
    def load_tensors(self, tensors: Mapping[str, torch.Tensor], *, source: str) -> Self:
        """Fill the bank from `tensors`; raises CheckpointError with every name that is wrong."""
        own = self.tensors()
        problems = [f"{name}: missing" for name in own if name not in tensors]
        problems += [f"{name}: unexpected" for name in tensors if name not in own]
        problems += [
            f"{name}: shape {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}"
            for name in own
            if name in tensors and tensors[name].shape != own[name].shape
        ]
        if problems:
            raise CheckpointError(
                f"{source}: its {self.kind} adapters have {len(problems)} wrong tensors: "
                f"{'; '.join(problems[:8])}; the file is damaged, or written by another version "
                "of the adapter"
            )
        for layer, path in self._places():
            prefix = f"{layer}.{path}."
            found = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
            self.adapter(layer, path).load_state_dict(found)
        return self

    def config(self) -> dict[str, Any]:
        """Everything but the tensors, as JSON."""
        return {
            "kind": self.kind,
            "options": self.options,
            "layout": self.layout.to_dict(),
            "layers": {name: [m.out, m.inp, m.parts] for name, m in self.layers.items()},
        }

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """A bank from `config`, to be filled by `load_state_dict`.

        The adapter must be registered: a file never names code to be run. Raises ConfigError for
        a config that no bank has written, PluginError for an adapter that is not registered.
        """
        try:
            layers = {name: MatrixSlice(*sizes) for name, sizes in config["layers"].items()}
            layout, kind, options = Layout.of(config["layout"]), config["kind"], config["options"]
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"the adapters' description is damaged ({type(error).__name__}: {error}); "
                "expected what AdapterBank.config() gives"
            ) from error
        if kind not in registry.names():
            raise PluginError(
                f"the adapters are of kind {kind!r}, which is not installed here (known: "
                f"{', '.join(registry.names())}); install the package that announces it, or load "
                f"its file first: hwnas.registry.adapters.load('./my_adapter.py')"
            )
        rng = torch.Generator().manual_seed(0)  # overwritten by the tensors that are loaded
        return cls(layers, layout, rng=rng, kind=kind, options=options)

    def _places(self) -> Iterator[tuple[str, str]]:
        return ((layer, path) for layer in self.layers for path in self.layout.every_path)
