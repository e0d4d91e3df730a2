"""How large an adapter is, without the model that it is for: one block is made, all are counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from hwnas.adapters.attaching import attach
from hwnas.adapters.contract import WeightAdapter
from hwnas.adapters.peft_format import PEFT_FORMATS
from hwnas.workload.adapter_choice import AdapterChoice
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["AdapterSize", "adapter_size", "stored_tensors"]


@dataclass(frozen=True, slots=True)
class AdapterSize:
    """Of all layers together; `has_product` as in `WeightAdapter`.

    `stored_bytes` are those of the tensors in the file that `save` writes, without its header.
    """

    trained: int
    stored_bytes: int
    has_product: bool


def adapter_size(choice: AdapterChoice, geometry: SamGeometry) -> AdapterSize:
    """Make the adapter for one block of an encoder and count it for each.

    Raises:
        PluginError: there is no such kind, or it does not take the options.
    """
    rng = torch.Generator().manual_seed(0)
    parts = {"attn": nn.ModuleDict(), "mlp": nn.ModuleDict()}
    for name, (rows, columns) in choice.matrices(geometry).items():
        linear = nn.Linear(columns, rows, device="meta")
        # masks that choose by the weight want one
        linear.weight = nn.Parameter(torch.randn(rows, columns, generator=rng), requires_grad=False)
        parts["attn" if name in ("qkv", "proj") else "mlp"][name] = linear
    blocks = nn.ModuleList([nn.ModuleDict(parts)])
    model = nn.ModuleDict({"image_encoder": nn.ModuleDict({"blocks": blocks})})
    weights = {n.removesuffix(".weight"): p for n, p in model.named_parameters()}
    attached = attach(
        model, choice.kind, targets=choice.targets, gradients=weights, **choice.options(geometry)
    )
    adapters = attached.adapters("default")
    trained = sum(p.numel() for a in adapters.values() for p in a.parameters() if p.requires_grad)
    tensors = stored_tensors(attached.specs["default"].kind, adapters)
    stored = sum(t.numel() * t.element_size() for found in tensors.values() for t in found.values())
    return AdapterSize(
        trained * geometry.depth, stored * geometry.depth,
        all(adapter.has_product for adapter in adapters.values()),
    )  # fmt: skip


def stored_tensors(
    kind: str, adapters: Mapping[str, WeightAdapter]
) -> dict[str, dict[str, torch.Tensor]]:
    """What is written of adapters, by layer and name: peft's tensors where it knows the kind."""
    codec = PEFT_FORMATS.get(kind)
    encoded = None if codec is None else codec.encode(adapters)
    if encoded is None:
        return {path: dict(adapter.state_dict()) for path, adapter in adapters.items()}
    return dict(encoded[1])
