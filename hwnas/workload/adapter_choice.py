"""Which adapter, how large, and where: what a search over adapters decides, and what it costs.

`rank` means as many parameters for every kind. A pair of rank r has r (rows + columns) numbers in a
layer, and SHiRA trains as many entries, spread over its layers by one density.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwnas.errors import ConfigError
from hwnas.workload.layers import LayerSpec
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["PLACEMENTS", "AdapterChoice"]

PLACEMENTS: Mapping[str, tuple[str, ...]] = {
    "qkv": ("qkv",),
    "attention": ("qkv", "proj"),
    "mlp": ("lin1", "lin2"),
    "all": ("qkv", "proj", "lin1", "lin2"),
}
"""The layers of every block that carry an adapter, by the name of the placement."""
_PLACES = {"qkv": "attn.qkv", "proj": "attn.proj", "lin1": "mlp.lin1", "lin2": "mlp.lin2"}


@dataclass(frozen=True, slots=True)
class AdapterChoice:
    """One adapter for an image encoder.

    Raises:
        ConfigError: the rank or the placement makes no sense.
    """

    kind: str
    rank: int
    placement: str

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS or self.rank < 1:
            raise ConfigError(
                f"adapter of rank {self.rank} at {self.placement!r}; expected a rank of 1 or more "
                f"and one of {', '.join(PLACEMENTS)}"
            )

    @classmethod
    def of(cls, genes: Mapping[str, Any]) -> AdapterChoice:
        """From the genes `kind`, `rank` and `placement`."""
        return cls(str(genes["kind"]), int(genes["rank"]), str(genes["placement"]))

    @property
    def carriers(self) -> tuple[str, ...]:
        """The layers of a block that carry it: `qkv`, `proj`, `lin1`, `lin2`."""
        return PLACEMENTS[self.placement]

    @property
    def targets(self) -> str:
        """Regular expression for their names in a `segment_anything` model."""
        places = "|".join(_PLACES[name].replace(".", r"\.") for name in self.carriers)
        return rf"image_encoder\.blocks\.\d+\.({places})"

    def carries(self, layer: LayerSpec) -> bool:
        """Whether a layer of a lowered encoder carries it."""
        block, _, name = layer.name.rpartition(".")
        return layer.kind == "linear" and block.startswith("blocks.") and name in self.carriers

    def matrices(self, geometry: SamGeometry) -> dict[str, tuple[int, int]]:
        """Rows and columns of the matrices of one block that carry it, by layer."""
        dim, hidden = geometry.dim, geometry.mlp_hidden
        every = {"qkv": (3 * dim, dim), "proj": (dim, dim), "lin1": (hidden, dim),
                 "lin2": (dim, hidden)}  # fmt: skip
        return {name: every[name] for name in self.carriers}

    def options(self, geometry: SamGeometry) -> dict[str, Any]:
        """The options of the kind that give it this size.

        A kind that is not known here is given its rank and nothing else.
        """
        if self.kind == "shira":
            matrices = self.matrices(geometry).values()
            entries = sum(self.rank * (rows + columns) for rows, columns in matrices)
            return {"density": entries / sum(rows * columns for rows, columns in matrices)}
        if self.kind == "foura":
            return {"rank": self.rank, "gate": "static"}  # the one that a weight can replace
        return {"rank": self.rank}
