"""Networks of random weights and rough scales, for benchmarks of time, memory and bytes.

None of the three depends on the values, or on how well the scales fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from hwnas.quant.bits import ATTENTION_BITS, BITS, EDGE_BITS, signed_codes
from hwnas.supernet.elastic_encoder import ElasticEncoder
from hwnas.supernet.encoder_weights import NECK_CONV, NECK_LINEAR, PATCH, EncoderWeights
from hwnas.supernet.sam_model import build_sam
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.scale_table import ScaleTable, attention_key, input_key, weight_key
from hwnas.workload.sam_geometry import SamGeometry
from hwnas.workload.sam_plan import LINEARS

__all__ = ["random_supernet", "rough_scales"]

_SPAN = 4.0  # of an input after a norm, from -2 to 2


def random_supernet(geometry: SamGeometry, *, seed: int) -> SamSupernet:
    """A supernet in the official shapes; the state of torch's generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        supernet = SamSupernet(build_sam(geometry))
    supernet.encoder.scales = ScaleTable(rough_scales(supernet.encoder))
    return supernet


@torch.no_grad()
def rough_scales(encoder: ElasticEncoder, widths: Sequence[int] = BITS) -> dict[str, torch.Tensor]:
    """A scale for every quantizer at these widths, by the names of `ScaleTable`.

    Weights: by their largest value in each output; an encoder's adapters must add nothing yet.
    """
    tensors: dict[str, torch.Tensor] = {}
    weights = EncoderWeights(encoder.encoder)
    for layer, bits in _quantized(encoder, widths):
        largest = weights.weight(layer).abs().amax(1)
        tensors[weight_key(layer, bits)] = largest / signed_codes(bits)[1] + 1e-6
        tensors[input_key(layer, bits)] = torch.tensor([_SPAN / (1 << bits), -_SPAN / 2])
    for block in range(encoder.geometry.depth):
        for bits in ATTENTION_BITS:
            own = _SPAN / (1 << bits)
            tensors[attention_key(block, bits)] = torch.tensor([own, own, own, 1 / (1 << bits)])
    device = encoder.encoder.pos_embed.device
    return {name: value.to(device) for name, value in tensors.items()}


def _quantized(encoder: ElasticEncoder, widths: Sequence[int]) -> Iterator[tuple[str, int]]:
    for block in range(encoder.geometry.depth):
        yield from ((f"blocks.{block}.{name}", bits) for name in LINEARS for bits in widths)
    yield from ((name, EDGE_BITS) for name in (PATCH, NECK_LINEAR, NECK_CONV))
