"""One subnet of a supernet that is fine-tuned, under the quantizers that it is deployed with.

What the supernet has learned for the subnet's bits is merged into its weights first; fresh
adapters of the subnet's own size come on top, inside the quantizer. Scales stay as they are, so
that adapters of one subnet can be exchanged.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwnas.adapters import AdapterBank, Layout, MatrixSlice, WeightAdapter
from hwnas.adapters.bank import MERGED
from hwnas.adapters.contract import ROLES
from hwnas.adapters.plugin import construct, resolve_kind
from hwnas.config.finetuning import FinetuneConfig
from hwnas.errors import ConfigError
from hwnas.quant.bits import BITS
from hwnas.records.files import explained
from hwnas.supernet.checkpoint import read_tensors, save_weights
from hwnas.supernet.encoder_weights import EncoderWeights, LayerSize
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.training.finetuning.student import (
    Groups,
    copy_tensors,
    reference_groups,
    require_free,
)
from hwnas.workload.sam_plan import LINEARS, EncoderPlan

__all__ = ["SubnetStudent", "merge_own_adapters", "subnet_layers"]

_PATH = "base"  # the one of the layout `shared`
_FILE = "bank.safetensors"


def subnet_layers(plan: EncoderPlan) -> dict[str, MatrixSlice]:
    """The linear layers of a plan's blocks by name (`blocks.3.qkv`), at the sizes of the plan."""
    found = {}
    for block in plan.blocks:
        inner = block.heads * plan.geometry.head_dim
        sizes = ((inner, plan.width), (plan.width, inner),
                 (block.mlp_hidden, plan.width), (plan.width, block.mlp_hidden))  # fmt: skip
        for name, size in zip(LINEARS, sizes, strict=True):
            layer = LayerSize(f"blocks.{block.index}.{name}", *size)
            found[layer.name] = layer.part
    return found


@torch.no_grad()
def merge_own_adapters(supernet: SamSupernet, plan: EncoderPlan) -> None:
    """Put a supernet's adapters into the weights that `plan` reads, at its bits, and drop them.

    Other subnets are of no use afterwards.
    """
    weights = EncoderWeights(supernet.sam.image_encoder, supernet.encoder.adapters)
    bits = {
        f"blocks.{block.index}.{name}": (block.w_bits[i], block.a_bits[i])
        for block in plan.blocks for i, name in enumerate(LINEARS)
    }  # fmt: skip
    for layer, part in subnet_layers(plan).items():
        merged = weights.merged(LayerSize(layer, part.out, part.inp), *bits[layer])
        whole = weights.weight(layer).view(part.parts, -1, weights.weight(layer).shape[1])
        whole[:, : part.out, : part.inp] = merged.view(part.parts, part.out, part.inp)
    supernet.encoder.adapters = None
    supernet.encoder.forget()


class SubnetStudent(nn.Module):
    """Fresh adapters of the recipe's kind on one plan of a supernet, which is changed in place.

    Raises:
        ConfigError: no layer matches, or the adapter is a branch, which no integer product takes.
        PluginError: there is no such adapter, or it does not take the options.
    """

    def __init__(
        self, supernet: SamSupernet, plan: EncoderPlan, config: FinetuneConfig, *, seed: int,
        gradients: Mapping[str, torch.Tensor] | None = None, kept: Path | None = None,
    ) -> None:  # fmt: skip
        """Begin with fresh adapters, or with those that are `kept` in a folder."""
        super().__init__()
        merge_own_adapters(supernet, plan)
        self.config, self.plan = config, plan
        self.bank = None if config.reference is not None else _bank(plan, config, seed)
        if self.bank is not None and kept is not None:
            self.bank.load_tensors(read_tensors(kept / _FILE), source=str(kept))
        elif self.bank is not None:
            self._fit(supernet, self.bank, gradients or {})
        self.supernet = SamSupernet(
            supernet.sam, scales=supernet.encoder.scales, order=supernet.order, adapters=self.bank
        )
        self.supernet.sam.requires_grad_(False)
        self.supernet.encoder.scales.requires_grad_(False)
        self.supernet.activate(plan)

    @property
    def module(self) -> nn.Module:
        return self

    @property
    def sam(self) -> Any:
        return self.supernet.sam

    @property
    def adapters(self) -> Sequence[WeightAdapter]:
        if self.bank is None:
            return []
        return [self.bank.adapter(layer, _PATH) for layer in self.bank.layers]

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        embedding: torch.Tensor = self.supernet(images)
        return embedding

    def groups(self) -> Groups:
        found = reference_groups(self.named_parameters(), self.config, prefix="supernet.sam.")
        if self.bank is not None:
            for group, members in self.bank.trainable_groups().items():
                own = [(f"bank.{name}", parameter) for name, parameter in members]
                found.setdefault(group, []).extend(own)
        return found

    def write_adapters(self, place: Path) -> list[Path]:
        if self.bank is None:
            return []
        path = place / _FILE
        with explained("write", path):
            return [save_weights(path, self.bank.tensors())]

    def tuned_tensors(self) -> dict[str, torch.Tensor]:
        prefix = "supernet.sam."
        return {
            name.removeprefix(prefix): parameter.detach()
            for group in self.groups().values() for name, parameter in group
            if name.startswith(prefix)
        }  # fmt: skip

    def load_tuned(self, tuned: Mapping[str, torch.Tensor], *, source: str) -> None:
        copy_tensors(tuned, self.tuned_tensors(), source=source)
        self.supernet.encoder.forget()

    def _fit(
        self, supernet: SamSupernet, bank: AdapterBank, gradients: Mapping[str, torch.Tensor]
    ) -> None:
        weights = EncoderWeights(supernet.sam.image_encoder)
        for layer, part in bank.layers.items():
            adapter, gradient = bank.adapter(layer, _PATH), gradients.get(layer)
            if adapter.wants_gradient and gradient is None:
                raise ConfigError(
                    f"adapter {bank.kind} chooses by gradients; give those of {layer} (O, I)"
                )
            own = None if gradient is None else part.matrix(gradient)
            adapter.fit(part.matrix(weights.weight(layer)).detach(), own)


def _bank(plan: EncoderPlan, config: FinetuneConfig, seed: int) -> AdapterBank:
    own, layers = config.adapter, subnet_layers(plan)
    require_free(own.options)
    if own.targets is not None:
        layers = {n: part for n, part in layers.items() if re.fullmatch(own.targets, n)}
    if not layers:
        raise ConfigError(
            f"adapter.targets {own.targets!r} matches no layer of the subnet; expected a regular "
            f"expression for whole names such as {', '.join(list(subnet_layers(plan))[:4])}"
        )
    plugin, kind = resolve_kind(own.kind)
    rng = torch.Generator().manual_seed(seed)
    sample = construct(plugin, own.kind, next(iter(layers.values())), rng, own.options, roles=ROLES)
    if sample.role not in MERGED:
        raise ConfigError(
            f"adapter {kind} with these options is a {sample.role}: it runs beside a layer, and a "
            "subnet's layers are integer products that take in weights alone; choose one that is "
            "additive or a transform (lora), or fine-tune a plain model (without arch)"
        )
    rng = torch.Generator().manual_seed(seed)
    return AdapterBank(layers, Layout("shared", BITS), rng=rng, kind=own.kind, options=own.options)
