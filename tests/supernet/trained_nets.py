"""Supernets of `sam-vit-t` with random weights whose adapters, norms and decoder have moved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hwnas.adapters import block_linears, build_adapters
from hwnas.supernet.checkpoint import load_sam, save_weights
from hwnas.supernet.elastic_encoder import ElasticEncoder
from hwnas.supernet.encoder_order import EncoderOrder, sort_encoder
from hwnas.supernet.range_calibration import calibrate_ranges
from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.sam_supernet import SamSupernet, save_supernet
from hwnas.supernet.scale_table import ScaleTable
from hwnas.workload.sam_geometry import GEOMETRIES
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.adapted_models import move

GEOMETRY = GEOMETRIES["sam-vit-t"]
PLAN = EncoderPlan.uniform(GEOMETRY, resolution=128, w_bits=4, a_bits=8, attn_bits=8)
FLOAT = EncoderPlan.uniform(GEOMETRY, resolution=128)
Weights = dict[str, torch.Tensor]


def write_base(path: Path, *, seed: int = 0) -> Path:
    """A packed checkpoint with random weights."""
    torch.manual_seed(seed)
    weights = build_sam(GEOMETRY).state_dict()
    return save_weights(path, weights, metadata={"geometry": GEOMETRY.name}, packed=True)


def scales_of(base: Path) -> Weights:
    sam = load_sam(base)
    sort_encoder(sam.image_encoder, an_order(), GEOMETRY)
    image = torch.randn(3, 128, 128, generator=torch.Generator().manual_seed(0))
    return calibrate_ranges(
        ElasticEncoder(sam.image_encoder, GEOMETRY), [image],
        rng=torch.Generator().manual_seed(0), bits=(4, 8), attn_bits=(8,),
    ).tensors()  # fmt: skip


def an_order() -> EncoderOrder:
    stock = EncoderOrder.stock(GEOMETRY)
    return EncoderOrder(stock.heads.flip(1), stock.units.flip(1), stock.channels, stock.blocks)


def trained_net(
    base: Path, scales: Weights, layout: str, *, kind: str = "lora", **table: Any
) -> SamSupernet:
    """A supernet whose adapters (or weights), norms and decoder have moved."""
    sam = load_sam(base)
    sort_encoder(sam.image_encoder, an_order(), GEOMETRY)
    bank = None
    if layout != "none":
        bank = build_adapters(
            block_linears(GEOMETRY), rng=torch.Generator().manual_seed(0), layout=layout,
            bits=(4, 8), rank=4, n_low=4, kind=kind,
        )  # fmt: skip
        move(bank)
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            whole = layout == "none" and name.endswith(("qkv.weight", "lin1.weight"))
            if ".norm1." in name or name.startswith("mask_decoder.transformer") or whole:
                parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=rng))
    table = {"relative": True, **table}
    return SamSupernet(sam, scales=ScaleTable(scales, **table), order=an_order(), adapters=bank)


def save_net(net: SamSupernet, base: Path, path: Path, *, with_base: bool = False) -> Path:
    weights = load_sam(base).state_dict()
    return save_supernet(net, path, base_weights=weights, with_base=with_base, notes={"seed": 1})
