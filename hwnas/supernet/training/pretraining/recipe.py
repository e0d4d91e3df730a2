"""The numbers of the training recipe, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hwnas.supernet.training.precision import Precision

__all__ = ["CachedSet", "Mix", "Recipe", "StageRecipe", "restarted_recipe"]


@dataclass(frozen=True, slots=True)
class Mix:
    """A resolution, how often a step uses it, and the batch it then has.

    `images` is rounded up to a multiple of the number of processes. `precision` "bf16" pays at
    384 px and above; losses are computed in float32 either way. `window`, of stage d alone, is
    the side in cells of the part of each embedding that is decoded; 0 is all of it.
    """

    resolution: int
    share: float
    images: int
    prompts: int = 0
    precision: Precision = "fp32"
    window: int = 0


@dataclass(frozen=True, slots=True)
class StageRecipe:
    """One stage: steps (or a share of the given minutes, whichever ends first) and rates."""

    steps: int
    share: float
    rate: float
    mixes: tuple[Mix, ...]
    weight_decay: float = 0.01
    warmup: float = 0.04
    clip: float = 1.0
    ema: float = 0.998


@dataclass(frozen=True, slots=True)
class CachedSet:
    """`count` views of each `every`-th training image; `crop` is the share of crops."""

    resolution: int
    count: int
    crop: float
    every: int = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """The whole recipe of `sam-vit-s` (stages s and d) and `sam-vit-t` (stages t1, t2 and d).

    Views in `cached_views` pass the teacher's encoder once, those in `decoded_views` the frozen
    encoder of stage d. `position_scales` are the standard deviations of the random Fourier
    features of the prompt encoder; segment_anything has 1 for all, we go up to 10 because
    the objects are small. `sharpness` and `kind_scale`: see `prime.py`. Objects of fewer than
    `min_pixels` pixels of a view are not prompted; `box_jitter` is a share of the box's side.
    `dense` weighs the auxiliary task of `dense.py` in stages t1 and t2. In t2 the share
    `recolored` of the views is recolored. Every `validate_every`-th image of the val split is
    scored, at the resolutions `validate_at`.
    """

    s: StageRecipe = field(
        default_factory=lambda: StageRecipe(
            steps=2600,
            share=0.32,
            rate=8e-4,
            mixes=(Mix(256, 0.82, 5, 7), Mix(512, 0.18, 2, 5)),
        )
    )
    t1: StageRecipe = field(
        default_factory=lambda: StageRecipe(
            steps=1400,
            share=0.18,
            rate=1e-3,
            mixes=(Mix(256, 0.85, 8), Mix(512, 0.15, 2)),
        )
    )
    t2: StageRecipe = field(
        default_factory=lambda: StageRecipe(
            steps=4500,
            share=0.50,
            rate=4e-4,
            mixes=(
                Mix(128, 0.05, 6, 8),
                Mix(256, 0.59, 4, 8),
                Mix(384, 0.08, 2, 8),
                Mix(512, 0.28, 1, 10),
            ),
        )
    )
    d: StageRecipe = field(
        default_factory=lambda: StageRecipe(
            steps=6000,
            share=0.65,
            rate=1e-3,
            mixes=(
                Mix(256, 0.15, 3, 10),
                Mix(512, 0.70, 16, 6, window=8),
                Mix(512, 0.15, 1, 10),
            ),
        )
    )
    cached_views: tuple[CachedSet, ...] = (CachedSet(256, 3, 0.7), CachedSet(512, 1, 0.3, every=2))
    decoded_views: tuple[CachedSet, ...] = (CachedSet(512, 1, 0.35), CachedSet(256, 1, 0.6))
    position_scales: tuple[float, float] = (1.0, 10.0)
    sharpness: float = 1.5
    kind_scale: float = 0.3
    min_pixels: int = 10
    box_jitter: float = 0.06
    dense: float = 1.0
    recolored: float = 0.25
    validate_at: tuple[int, ...] = (256, 512)
    validate_every: int = 5


def restarted_recipe() -> Recipe:
    """Stages d and t2 from the weights of an earlier run; t2 longer, and with more of 512 px."""
    again = StageRecipe(
        steps=9000,
        share=0.35,
        rate=4e-4,
        warmup=0.01,
        mixes=(
            Mix(128, 0.04, 6, 8),
            Mix(256, 0.52, 4, 8),
            Mix(384, 0.10, 2, 8, "bf16"),
            Mix(512, 0.34, 1, 12, "bf16"),
        ),
    )
    return replace(Recipe(), t2=again, recolored=0.3)
