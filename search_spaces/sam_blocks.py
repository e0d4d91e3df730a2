"""A SAM image encoder put together from a library of blocks, one option a slot.

Genes: `slots.S.block` for each of the encoder's four slots, which end in its global blocks. An
option (`hwnas.blocks.options`) has a kind (the teacher's own blocks, blocks that attend within
windows only, blocks with a convolution in place of attention), a depth, a width and bits. The
resolution is one, because blocks of different resolutions are trained on different features;
`sam_blocks_space` gives the space of another one.

Source of the layout: DONNA (Moons et al., 2021), five slots of 384 candidates there. Blocks are
trained with `hwnas blocks build`; what they lose is the cost model `block_loss`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from hwnas.blocks.layer_counts import slot_layers
from hwnas.blocks.options import all_options, kept_blocks, option_of, slot_gene
from hwnas.space import Arch, SearchSpace, Slot, choice, repeat
from hwnas.workload.layers import LayerSpec, Workload
from hwnas.workload.sam import GEOMETRIES, SamGeometry, neck_layers, stem_layers
from hwnas.workload.sam_decoder import decoder_layers
from search_spaces.sam import IMPORTANCE_T, keep_order

__all__ = ["sam_blocks_space", "sam_vit_t_blocks"]

Layers = tuple[LayerSpec, ...]
_SUPERNET = "hwnas.blocks.stitching:build"
_DECODER_BITS = 16
# Until a library of one's own is named, losses are those that ship for the space.
_OBJECTIVES = ("block_loss", "latency", "bitops")


def sam_blocks_space(
    geometry: SamGeometry,
    resolution: int,
    *,
    name: str,
    importance: Mapping[int, float] | None = None,
) -> SearchSpace:
    """Build the space of one encoder at one resolution, a side in pixels.

    `importance` has a number for each block of the encoder; a slot of less depth starts from its
    most important blocks, its last one always among them.
    """
    keep = tuple(keep_order(geometry, stage, importance) for stage in range(geometry.stages))
    parts = _Parts(geometry, resolution, keep)
    options = [option.name for option in all_options(geometry)]
    # slots differ in what they keep where their blocks attend differently
    kinds = [tuple(geometry.window_of(place) for place in order) for order in keep]
    return SearchSpace(
        name,
        [repeat("slots", geometry.stages, [choice("block", options)])],
        slots=[
            Slot("stem", (), parts.stem),
            *(
                Slot(
                    f"slots.{slot}", (slot_gene(slot),), partial(parts.slot, slot),
                    shared=("block", kinds[slot]),
                )
                for slot in range(geometry.stages)
            ),
            Slot("neck", (), parts.neck),
            Slot("decoder", (), parts.decoder),
        ],
        lower=parts.lower,
        supernet=_SUPERNET,
        extras={
            "objectives": _OBJECTIVES,
            "blocks": {"geometry": geometry.name, "resolution": resolution},
        },
        description=f"blocks for the {geometry.stages} slots of {geometry.name} at {resolution} px",
    )  # fmt: skip


def sam_vit_t_blocks() -> SearchSpace:
    """The slots of `sam-vit-t` at 256 px: 108 options in each of four, 136 million networks."""
    geometry = GEOMETRIES["sam-vit-t"]
    return sam_blocks_space(
        geometry, 256, name="sam-vit-t-blocks", importance=dict(enumerate(IMPORTANCE_T))
    )


@dataclass(frozen=True)
class _Parts:
    """Layers of the slots and of what is around them; `keep` lists what each slot starts from."""

    geometry: SamGeometry
    resolution: int
    keep: tuple[tuple[int, ...], ...]

    def stem(self) -> Layers:
        return stem_layers(self.geometry, self.resolution)

    def slot(self, slot: int, block: str) -> Layers:
        """Layers of an option of a slot."""
        option = option_of(block)
        places = kept_blocks(self.keep[slot], option.depth)
        return slot_layers(self.geometry, slot, option, places, self.resolution)

    def neck(self) -> Layers:
        return neck_layers(self.geometry, self.resolution)

    def decoder(self) -> Layers:
        g = self.geometry
        return decoder_layers(
            g.grid(self.resolution), bits=_DECODER_BITS, drawn_boxes=g.drawn_boxes
        )

    def lower(self, arch: Arch) -> Workload:
        """All layers of a network in the order of running."""
        slots = range(self.geometry.stages)
        layers = (
            *self.stem(),
            *(layer for slot in slots for layer in self.slot(slot, str(arch[slot_gene(slot)]))),
            *self.neck(),
            *self.decoder(),
        )
        return Workload(layers, (3, self.resolution, self.resolution))
