"""Fill the scales of every quantizer from weights and from images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from hwnas.quant.bits import ATTENTION_BITS, BITS, EDGE_BITS, unsigned_codes
from hwnas.quant.ranges import activation_range, signed_scale, weight_scales
from hwnas.supernet.elastic_encoder import ElasticEncoder
from hwnas.supernet.encoder_weights import NECK_CONV, NECK_LINEAR, PATCH
from hwnas.supernet.observing import observed
from hwnas.supernet.position_tables import by_pair, resize_table
from hwnas.supernet.scale_table import ScaleTable, attention_key, input_key, weight_key
from hwnas.workload.sam_geometry import SamGeometry
from hwnas.workload.sam_plan import LINEARS, EncoderPlan

__all__ = ["calibrate_ranges"]

_EDGES = (PATCH, NECK_LINEAR, NECK_CONV)
_VALUES = 8192  # kept of each tensor of each image
_ROWS, _REGIONS = 64, 16  # softmax rows and regions looked at, of each image
_TOPS = tuple(2.0 ** (-k / 2) for k in range(17))  # candidates for the largest softmax code


@torch.no_grad()
def calibrate_ranges(
    encoder: ElasticEncoder,
    images: Sequence[torch.Tensor],
    *,
    rng: torch.Generator,
    bits: Sequence[int] = BITS,
    attn_bits: Sequence[int] = ATTENTION_BITS,
    edges: bool = True,
    plan_at: Callable[[int], EncoderPlan] | None = None,
) -> ScaleTable:
    """Scales and offsets for each bit-width, from the largest network in full precision.

    `plan_at` gives another network to look at, by resolution. Without `edges` patch embedding and
    neck, which have one bit-width, are left out.

    `images` are normalized inputs (3, R, R); give them at all resolutions of the space, because
    one set of scales serves all of them. Weights, inputs, queries, keys and values: least squared
    error (`hwnas.quant.ranges`), on 8192 values of each tensor and image, drawn with `rng`, and
    its exact minimum and maximum. Softmax output: least squared error of its product with the
    values, relative to that product, over 17 largest codes from 1 down to 1/256; a squared error
    of the weights themselves would round the many small ones of a large grid to zero.
    """
    values, softmax = _Values(rng), _SoftmaxErrors(encoder, rng, attn_bits)

    def observe(name: str, x: torch.Tensor) -> None:
        if name.endswith(".attn"):
            softmax.add(name, x)
            q, k, v = x.chunk(3, dim=-1)
            values.add(f"{name}.q", q)
            values.add(f"{name}.k", k)
            values.add(f"{name}.v", v)
        else:
            values.add(name, x)

    for image in images:
        side = image.shape[-1]
        plan = (
            EncoderPlan.uniform(encoder.geometry, resolution=side)
            if plan_at is None
            else plan_at(side)
        )
        observed(encoder.view(plan), observe)(image[None])
    layers = list(_layers(encoder.geometry, bits, edges))
    tensors = dict(_weight_entries(encoder, layers))
    tensors |= dict(_input_entries(layers, values))
    tensors |= dict(_attention_entries(encoder.geometry, values, softmax, attn_bits))
    return ScaleTable(tensors)


def _layers(geometry: SamGeometry, bits: Sequence[int], edges: bool) -> Iterator[tuple[str, int]]:
    for block in range(geometry.depth):
        yield from ((f"blocks.{block}.{name}", b) for name in LINEARS for b in bits)
    if edges:
        yield from ((name, EDGE_BITS) for name in _EDGES)


def _weight_entries(
    encoder: ElasticEncoder, layers: Sequence[tuple[str, int]]
) -> Iterator[tuple[str, torch.Tensor]]:
    table = encoder.scales
    for layer, b in layers:
        weight = encoder.weight(layer, b, b)
        yield (
            weight_key(layer, b),
            weight_scales(
                weight, b, centered=table.grid_is_centered(b), per_tensor=table.per_tensor
            ),
        )


def _input_entries(
    layers: Sequence[tuple[str, int]], values: _Values
) -> Iterator[tuple[str, torch.Tensor]]:
    for layer, b in layers:
        yield input_key(layer, b), torch.stack(activation_range(values[layer], b))


def _attention_entries(
    geometry: SamGeometry, values: _Values, softmax: _SoftmaxErrors, bits: Sequence[int]
) -> Iterator[tuple[str, torch.Tensor]]:
    for block in range(geometry.depth):
        name = f"blocks.{block}.attn"
        for b in bits:
            scales = [signed_scale(values[f"{name}.{part}"], b) for part in "qkv"]
            yield attention_key(block, b), torch.stack([*scales, softmax.best(name, b)])


class _Values:
    """A sample of the values of each tensor, with its exact extremes."""

    def __init__(self, rng: torch.Generator) -> None:
        self._rng = rng
        self._parts: dict[str, list[torch.Tensor]] = {}

    def add(self, name: str, x: torch.Tensor) -> None:
        flat = x.reshape(-1)
        drawn = flat[torch.randint(len(flat), (min(_VALUES, len(flat)),), generator=self._rng)]
        extremes = torch.stack([flat.amin(), flat.amax()])
        self._parts.setdefault(name, []).append(torch.cat([drawn, extremes]))

    def __getitem__(self, name: str) -> torch.Tensor:
        return torch.cat(self._parts[name])


class _SoftmaxErrors:
    """Relative squared error of softmax(scores) times values, by bits and largest code."""

    def __init__(self, encoder: ElasticEncoder, rng: torch.Generator, bits: Sequence[int]) -> None:
        self._encoder, self._rng, self._bits = encoder, rng, bits
        self._errors: dict[tuple[str, int], torch.Tensor] = {}

    def add(self, name: str, qkv: torch.Tensor) -> None:
        weights, v = self._sample(name, qkv)
        exact = weights @ v
        energy = exact.square().sum()
        for bits in self._bits:
            _, highest = unsigned_codes(bits)
            errors = []
            for top in _TOPS:
                scale = top / highest
                rounded = (weights / scale).round_().clamp_max_(highest).mul_(scale)
                errors.append((rounded @ v - exact).square().sum() / energy)
            key = name, bits
            self._errors[key] = self._errors.get(key, 0) + torch.stack(errors)

    def best(self, name: str, bits: int) -> torch.Tensor:
        """The scale with the least error summed over images."""
        best = _TOPS[int(self._errors[name, bits].argmin())]
        return torch.tensor(best / unsigned_codes(bits)[1])

    def _sample(self, name: str, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Softmax rows (n, heads, rows, L) of some queries of some regions, and values."""
        geometry = self._encoder.geometry
        regions, length, _ = qkv.shape
        side = round(length**0.5)
        some = torch.randperm(regions, generator=self._rng)[:_REGIONS]
        rows = torch.randperm(length, generator=self._rng)[:_ROWS]
        parts = qkv[some].view(len(some), length, 3, geometry.heads, geometry.head_dim)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        q = q[:, :, rows]
        attention = self._encoder.encoder.blocks[int(name.split(".")[1])].attn
        height, width = (
            by_pair(resize_table(t, side)) for t in (attention.rel_pos_h, attention.rel_pos_w)
        )
        down = torch.einsum("nhrc,rkc->nhrk", q, height[rows // side])
        across = torch.einsum("nhrc,rkc->nhrk", q, width[rows % side])
        scores = (q * geometry.head_dim**-0.5) @ k.transpose(-2, -1)
        scores = scores + (down[..., None] + across[..., None, :]).flatten(-2)
        return scores.softmax(dim=-1), v
