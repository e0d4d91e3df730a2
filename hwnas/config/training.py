"""The recipe of a supernet: everything that decides what `hwnas train` makes of base and data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwnas.config.changes import with_changes
from hwnas.config.problems import config_error, read_yaml

__all__ = ["AdapterConfig", "BatchConfig", "LossConfig", "RateConfig", "StepConfig", "TrainConfig",
           "ValidationConfig", "changed_recipe", "load_training"]  # fmt: skip

Scalar = str | int | float | bool


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AdapterConfig(_Strict):
    """Which weights train: adapters inside the quantizer, or, without them, the weights."""

    layout: Literal["none", "shared", "selective", "multiplex"] = Field(
        default="multiplex", description="paths by bit-width; none trains the weights themselves"
    )
    kind: str = Field(default="lora", description="registered adapter")
    rank: int = Field(default=8, ge=1)
    alpha: float | None = Field(
        default=None, description="scaling is alpha / rank; the rank if null"
    )
    options: dict[str, Scalar] = Field(
        default_factory=dict, description="further options of the adapter"
    )
    n_low: int = Field(
        default=3, description="multiplex: bit-widths up to this one have a path of theirs"
    )
    path_key: Literal["weight", "min"] = Field(
        default="weight",
        description="bit-width that picks the path: of the weight, or the lower of both",
    )
    targets: str = Field(
        default=r"blocks\.\d+\.(qkv|proj|lin1|lin2)",
        description="regular expression for the names of the layers that carry adapters",
    )


class BatchConfig(_Strict):
    """One resolution, how often a step uses it, and the batch it then has."""

    resolution: int
    share: float = Field(gt=0)
    images: int = Field(ge=1)
    prompts: int = Field(
        default=8, ge=2, description="prompts an image, half boxes and half points"
    )


class StepConfig(_Strict):
    """Steps of the phases; 0 leaves a phase out."""

    teacher: int = Field(default=0, ge=0, description="largest network in floating point")
    axes: int = Field(default=1000, ge=0, description="each of resolution, depth and width")
    bits: tuple[int, ...] = Field(
        default=(500, 500, 1000), description="each bit-width after the first"
    )
    joint: int = Field(default=0, ge=0, description="order joint: all steps; 0 sums up the others")


class LossConfig(_Strict):
    """Weights of the losses; `task` is for the largest subnet, `task_others` for the others."""

    task: float = Field(default=1.0, ge=0)
    task_others: float = Field(default=0.5, ge=0)
    mask: float = Field(
        default=1.0, ge=0, description="distillation of mask logits, not of the largest"
    )
    embedding: float = Field(default=0.5, ge=0, description="distillation of the neck's output")


class RateConfig(_Strict):
    """Peak learning rates of AdamW.

    Scales are trained in units of their calibrated value, so their rates are relative.
    """

    adapters: float = Field(default=2e-4, gt=0)
    weights: float = Field(default=1e-4, gt=0, description="of layout none")
    norms: float = Field(default=1e-4, gt=0, description="LayerNorm and biases")
    scales: float = Field(default=1e-3, gt=0, description="scales and offsets of 4 bits and more")
    low_scales: float = Field(
        default=5e-4, gt=0, description="scales and offsets of 3 bits and fewer"
    )
    decoder: float = Field(default=2e-4, gt=0)
    later_phases: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="factor on all rates once bit-widths below the first open",
    )


class ValidationConfig(_Strict):
    """How a phase is judged: subnets at uniform bits on some images of the val split."""

    every: int = Field(default=200, ge=1, description="steps")
    images: int = Field(default=8, ge=1)
    prompts: int = Field(default=10, ge=1, description="objects an image at most")
    resolution: int | None = Field(default=None, description="the largest if null")


class TrainConfig(_Strict):
    """A recipe. Unknown keys are refused; the resolved form is written into the run folder."""

    space: str = Field(
        default="sam-vit-t", description="registered name, file or module path of a space"
    )
    only: dict[str, tuple[Scalar, ...]] = Field(
        default_factory=dict, description="options that are left of genes (names or globs)"
    )
    base: str | None = Field(
        default=None, description="checkpoint; the model shipped with the space if null"
    )
    task: Literal["promptable", "semantic"] = Field(
        default="promptable", description="objects from boxes and points, or the class of a pixel"
    )
    adapter: AdapterConfig = AdapterConfig()
    order: Literal["arch_then_bits", "bits_then_arch", "joint"] = "arch_then_bits"
    bits: tuple[int, ...] = Field(
        default=(8, 4, 3, 2), description="in the order in which they open"
    )
    keep_open: bool = Field(
        default=True,
        description="false closes a bit-width when the next one opens (OQAT's inheritance)",
    )
    steps: StepConfig = StepConfig()
    batches: tuple[BatchConfig, ...] = Field(min_length=1)
    random_subnets: int = Field(
        default=2, ge=0, description="a step, beside the largest and the smallest"
    )
    teacher: Literal["frozen", "in-place"] = Field(
        default="frozen",
        description="largest network in floating point, or the largest subnet of the step",
    )
    activation: Literal["learned", "batch"] = Field(
        default="learned", description="batch: ranges follow batch statistics (QFA)"
    )
    train_decoder: bool = True
    losses: LossConfig = LossConfig()
    rates: RateConfig = RateConfig()
    weight_decay: float = Field(default=0.05, ge=0, description="of adapters, weights and decoder")
    warmup: float = Field(default=0.02, ge=0, lt=1, description="share of a phase")
    clip: float = Field(default=1.0, gt=0, description="gradient norm, scales excluded")
    ema: float = Field(default=0.999, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoint_blocks: bool = Field(default=False, description="recompute activations in backward")
    crop: float = Field(default=0.5, ge=0, le=1, description="share of views that are crops")
    recolor: float = Field(
        default=0.25, ge=0, le=1, description="share of views that are recolored"
    )
    min_pixels: int = Field(
        default=10, ge=1, description="objects smaller than this are not prompted"
    )
    box_jitter: float = Field(default=0.06, ge=0, description="share of the box's side")
    calibration_images: int = Field(default=32, ge=1)
    validation: ValidationConfig = ValidationConfig()

    @model_validator(mode="after")
    def _bits_fit(self) -> Self:
        if sorted(self.bits, reverse=True) != list(self.bits) or not self.bits:
            raise ValueError(f"bits {list(self.bits)} must fall from the first to the last")
        wanted = len(self.bits) - 1
        if self.order != "joint" and len(self.steps.bits) < wanted:
            raise ValueError(
                f"steps.bits has {len(self.steps.bits)} numbers; expected one for each of the "
                f"bit-widths {list(self.bits[1:])} after the first"
            )
        return self

    @model_validator(mode="after")
    def _semantic_head_trains(self) -> Self:
        if self.task != "semantic":
            return self
        if not self.train_decoder:
            raise ValueError(
                "task semantic puts a new, untrained head into the mask decoder; set "
                "train_decoder: true"
            )
        if self.teacher == "frozen" and not self.steps.teacher:
            raise ValueError(
                "task semantic with a frozen teacher, whose new head nothing has trained; give "
                "steps.teacher 1 or more, or set teacher: in-place"
            )
        return self


def load_training(path: str | Path, changes: Mapping[str, object] | None = None) -> TrainConfig:
    """Read a recipe; `changes` replace its keys, with dots to reach inside (`adapter.rank`).

    Raises:
        ConfigError: listing every problem of the file at once.
    """
    return changed_recipe(read_yaml(path), changes or {}, source=str(path))


def changed_recipe(
    content: Mapping[str, Any], changes: Mapping[str, object], *, source: str
) -> TrainConfig:
    """Validate `content` with `changes`; `source` names it in errors."""
    try:
        return TrainConfig.model_validate(with_changes(content, changes, source=source))
    except ValidationError as error:
        raise config_error(source, error, TrainConfig) from error
