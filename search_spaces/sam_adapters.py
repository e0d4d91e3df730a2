"""Which adapter a SAM is fine-tuned with: its kind, its rank, and the layers that carry it.

Genes: `kind`, `rank` and `placement`. The network itself is not searched: it is the whole encoder
at one resolution, in floating point or at one bit-width. `rank` means as many parameters for every
kind: SHiRA trains as many entries of a matrix as a pair of that rank has, r (rows + columns), which
is also how huggingface/peft reads its rank.

An adapter that merges costs nothing at inference. One that cannot (Conv-LoRA) is lowered as what it
adds: two thin layers beside each layer that carries it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hwnas.space import Arch, SearchSpace, choice, ordinal
from hwnas.workload import ops
from hwnas.workload.adapter_choice import PLACEMENTS, AdapterChoice
from hwnas.workload.layers import LayerSpec, Workload
from hwnas.workload.ops import Bits
from hwnas.workload.sam import GEOMETRIES, EncoderPlan, SamGeometry, encoder_layers
from hwnas.workload.sam_decoder import decoder_layers

__all__ = ["KINDS", "adapter_space", "sam_vit_s_adapters", "sam_vit_t_adapters"]

KINDS = ("lora", "dora", "shira", "foura", "nas_lora", "conv_lora")
BRANCHES = ("conv_lora",)
"""Kinds that stay beside the weight when training is over."""
_RANKS = (2, 4, 8, 16)
_OBJECTIVES = ("finetuned_iou", "adapter_bytes", "training_macs")
_FLOAT = 32


def adapter_space(
    geometry: SamGeometry, *, name: str, resolution: int | None = None, bits: int = _FLOAT
) -> SearchSpace:
    """Build the space of one encoder at one resolution, a side in pixels (its largest).

    `bits` are those of weights and inputs of the blocks; 32 leaves them in floating point.
    """
    parts = _Parts(geometry, resolution or geometry.image_size, bits)
    return SearchSpace(
        name,
        [
            choice("kind", KINDS),
            ordinal("rank", _RANKS),
            choice("placement", tuple(PLACEMENTS)),
        ],
        lower=parts.lower,
        extras={
            "objectives": _OBJECTIVES,
            "adapters": {"geometry": geometry.name, "resolution": parts.resolution, "bits": bits},
        },
        description=f"adapters for {geometry.name} at {parts.resolution} px",
    )


def sam_vit_t_adapters() -> SearchSpace:
    """Adapters of `sam-vit-t`: 6 kinds, 4 ranks, 4 placements."""
    return adapter_space(GEOMETRIES["sam-vit-t"], name="sam-vit-t-adapters")


def sam_vit_s_adapters() -> SearchSpace:
    """Adapters of `sam-vit-s`, whose encoder has never seen the data that its decoder has."""
    return adapter_space(GEOMETRIES["sam-vit-s"], name="sam-vit-s-adapters")


@dataclass(frozen=True)
class _Parts:
    geometry: SamGeometry
    resolution: int
    bits: int

    def lower(self, arch: Arch) -> Workload:
        """The network with what the adapter leaves beside it."""
        plan = EncoderPlan.uniform(
            self.geometry, resolution=self.resolution, w_bits=self.bits, a_bits=self.bits,
            attn_bits=self.bits,
        )  # fmt: skip
        layers = tuple(self._with_branches(encoder_layers(plan), arch, plan.float_bits))
        g = self.geometry
        decoder = decoder_layers(g.grid(self.resolution), drawn_boxes=g.drawn_boxes)
        return Workload((*layers, *decoder), (3, self.resolution, self.resolution))

    def _with_branches(
        self, layers: tuple[LayerSpec, ...], arch: Arch, floats: int
    ) -> Iterator[LayerSpec]:
        choice = AdapterChoice.of(arch.genes)
        for layer in layers:
            yield layer
            if choice.kind in BRANCHES and choice.carries(layer):
                yield from _branch(layer, choice.rank, floats)


def _branch(layer: LayerSpec, rank: int, floats: int) -> Iterator[LayerSpec]:
    """Down to the rank, up again, and the sum, in floating point; the cell between is tiny."""
    rows, inp, out = layer.shape[:3]
    bits = Bits(floats, floats, floats)
    down = ops.linear(f"{layer.name}.down", rows, inp, rank, bits, group=layer.group)
    up = ops.linear(f"{layer.name}.up", rows, rank, out, bits, group=layer.group)
    for thin in (down, up):
        yield replace(thin, held_bits=layer.held_bits)
    yield ops.elementwise(
        f"{layer.name}.add", "add", layer.out_elems, layer.out_elems,
        extra_in_elems=layer.out_elems, a_bits=floats, out_bits=floats, group=layer.group,
    )  # fmt: skip
