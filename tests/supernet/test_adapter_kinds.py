"""Every kind of adapter inside the supernet's quantizer, or the sentence that refuses it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hwnas.adapters import AdapterBank, Layout, block_linears, build_adapters
from hwnas.errors import PluginError
from hwnas.supernet.encoder_weights import EncoderWeights
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import ScaleTable
from hwnas.workload.sam_plan import EncoderPlan
from tests.supernet.adapted_models import BITS, move
from tests.supernet.elastic_models import TINY, calibrated, mixed_plan, random_sam, smooth_images

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("lora", {"rank": 4}),
    ("dora", {"rank": 4}),
    ("shira", {"density": 0.05}),
    ("shira_dora", {"density": 0.05, "rank": 4}),
    ("foura", {"rank": 4, "gate": "static"}),
    ("nas_lora", {"rank": 4, "op_set": "token"}),
]


def bank(kind: str, options: dict[str, Any]) -> AdapterBank:
    rng = torch.Generator().manual_seed(0)
    layout = Layout("shared", BITS)
    found = build_adapters(block_linears(TINY), rng=rng, kind=kind, layout=layout, **options)
    weights = EncoderWeights(random_sam().image_encoder)
    return found.fit({layer: weights.weight(layer) for layer in found.layers})


def supernet(found: AdapterBank) -> SamSupernet:
    scales = ScaleTable(calibrated().encoder.scales.tensors())
    return SamSupernet(random_sam(), scales=scales, adapters=found)


def plans() -> list[EncoderPlan]:
    low = EncoderPlan.uniform(TINY, resolution=64, w_bits=2, a_bits=4, attn_bits=8)
    return [mixed_plan(resolution=64), low]


@pytest.mark.parametrize(("kind", "options"), KINDS, ids=[kind for kind, _ in KINDS])
def test_kinds_act_inside_the_quantizer(kind: str, options: dict[str, Any]) -> None:
    image, plain = smooth_images()[0][None], calibrated()
    found = bank(kind, options)
    net = supernet(found)
    for plan in plans():
        assert torch.equal(net.embed(image, plan), plain.embed(image, plan))
    move(found)
    for plan in plans():
        net = supernet(found)  # prepared weights are those of the fresh adapter
        assert not torch.equal(net.embed(image, plan), plain.embed(image, plan))
        assert torch.equal(net.embed(image, plan), net.subnet(plan)(image))


@pytest.mark.parametrize("kind", ["nas_lora", "conv_lora", "foura"])
def test_branches_are_refused(kind: str) -> None:
    with pytest.raises(PluginError, match="additive or transform"):
        bank(kind, {})
