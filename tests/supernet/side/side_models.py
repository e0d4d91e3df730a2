"""Small encoders and shaken side networks for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch.autograd.graph import Node

from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.side.network import SideNetwork
from hwnas.workload.sam_geometry import SamGeometry

GEOMETRY = SamGeometry(
    "tiny", dim=48, depth=3, heads=3, global_blocks=(2,), window=4, resolutions=(64, 128),
    heads_options=(3,), neck_dim=32,
)  # fmt: skip
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("losa", {}),
    ("losa", {"combine": "gate", "taps": "last:2"}),
    ("losa", {"inject": "after", "taps": "global", "film": True}),
    ("losa", {"frames": 3}),
    ("lst", {"taps": (0, 2)}),
    ("lst", {"combine": "add", "inject": "after", "film": True}),
    ("res_bypass", {}),
    ("res_bypass", {"combine": "gate", "inject": "after", "taps": (1, 2), "film": True}),
]


def tiny_sam(depth: int = 3) -> Any:
    torch.manual_seed(0)
    sam = build_sam(replace(GEOMETRY, depth=depth, global_blocks=(depth - 1,)))
    for parameter in sam.image_encoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return sam


def pictures(n: int = 2, side: int = 128) -> torch.Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def shake(side: SideNetwork, size: float = 0.1) -> SideNetwork:
    """Move every parameter, as training would."""
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in side.parameters():
            p.add_(size * torch.randn(p.shape, generator=rng))
    return side


def leaves(output: torch.Tensor) -> Iterator[torch.Tensor]:
    """Every tensor that the graph of `output` hands a gradient to."""
    seen: set[Node] = set()
    pending = [output.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        pending += [following for following, _ in node.next_functions]


def saved_storages(run: Any) -> dict[int, int]:
    """Address and bytes of everything that `run()` keeps for backward."""
    found: dict[int, int] = {}
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage.nbytes()
        kept.append(storage)  # else the address would be given away again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()
    del result
    return found
