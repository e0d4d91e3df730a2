"""The shapes of the SAM family, without torch.

`b`, `l`, `h` are the published sizes (segment-anything `build_sam.py`); `s` and `t` are ours:
`s` takes its encoder from a DINOv2-layout ViT-S, `t` is small enough to ship.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamGeometry:
    """One image encoder of the SAM family.

    `window` is the side of a local-attention window in tokens, 0 where every block attends
    globally. `resolutions` are the square input sides, in pixels, that the space offers, from
    small to large; the largest is the one that the checkpoint was trained at.
    `drawn_boxes`: a box is given to the prompt encoder twice, as its two corners and drawn as a
    filled mask prompt. The published weights know corners only; see `docs/decisions/0013`.
    """

    name: str
    dim: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    window: int
    resolutions: tuple[int, ...]
    heads_options: tuple[int, ...]
    patch: int = 16
    mlp_ratio: int = 4
    neck_dim: int = 256
    stages: int = 4
    drawn_boxes: bool = False

    @property
    def image_size(self) -> int:
        """Side of the largest input, in pixels."""
        return self.resolutions[-1]

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @property
    def mlp_hidden(self) -> int:
        return self.dim * self.mlp_ratio

    def grid(self, resolution: int) -> int:
        """Tokens along one side at an input of `resolution` pixels."""
        return resolution // self.patch

    def window_of(self, block: int) -> int:
        """Window side of a block in tokens; 0 means global attention."""
        return 0 if block in self.global_blocks else self.window

    def stage_blocks(self, stage: int) -> range:
        """Block indexes of a stage; its last block is never dropped."""
        size = self.depth // self.stages
        return range(stage * size, (stage + 1) * size)


_SAM_RESOLUTIONS = (448, 672, 896, 1024)

GEOMETRIES: dict[str, SamGeometry] = {
    g.name: g
    for g in (
        SamGeometry(
            "sam-vit-t",
            192,
            12,
            3,
            (2, 5, 8, 11),
            8,
            (128, 256, 384, 512),
            heads_options=(1, 2, 3),
            drawn_boxes=True,
        ),
        SamGeometry(
            "sam-vit-s",
            384,
            12,
            6,
            tuple(range(12)),
            0,
            (256, 384, 512),
            heads_options=(3, 4, 6),
            drawn_boxes=True,
        ),
        SamGeometry(
            "sam-vit-b", 768, 12, 12, (2, 5, 8, 11), 14, _SAM_RESOLUTIONS, heads_options=(6, 9, 12)
        ),
        SamGeometry(
            "sam-vit-l",
            1024,
            24,
            16,
            (5, 11, 17, 23),
            14,
            _SAM_RESOLUTIONS,
            heads_options=(8, 12, 16),
        ),
        SamGeometry(
            "sam-vit-h",
            1280,
            32,
            16,
            (7, 15, 23, 31),
            14,
            _SAM_RESOLUTIONS,
            heads_options=(8, 12, 16),
        ),
    )
}
