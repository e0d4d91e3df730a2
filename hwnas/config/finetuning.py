"""The recipe of a fine-tuning: everything that decides what `hwnas finetune` makes of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwnas.config.changes import with_changes
from hwnas.config.problems import config_error, read_yaml

__all__ = [
    "REFERENCES",
    "SIDE_NETWORKS",
    "ArchConfig",
    "DistilConfig",
    "FinetuneConfig",
    "FreezeConfig",
    "FreezeSet",
    "KindConfig",
    "QuantizerConfig",
    "changed_finetuning",
    "load_finetuning",
]  # fmt: skip

REFERENCES = ("bitfit", "full", "decoder")
"""What is trained without an adapter: biases and norms, the image encoder, the mask decoder."""
SIDE_NETWORKS = ("losa", "lst", "res_bypass")
"""Networks beside the frozen encoder (`hwnas.supernet.side`)."""
FreezeSet = Literal["none", "o", "v", "ov", "qk", "qkv"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KindConfig(_Strict):
    """What is trained, and where it sits."""

    kind: str = Field(
        default="lora",
        description="registered adapter; a side network: losa, lst, res_bypass; or a reference: "
        "bitfit, full, decoder",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the adapter")
    targets: str | None = Field(
        default=None,
        description="regular expression for the whole names of the layers that are adapted (and "
        "quantized); the four linear layers of every block if null",
    )
    gradient_batches: int = Field(
        default=16, ge=1, description="batches of the mean gradient, for adapters that want one"
    )


class QuantizerConfig(_Strict):
    """Bits of the adapted layers' weights and inputs; grids come from calibration images."""

    w_bits: int = 4
    a_bits: int = 8
    learned: bool = Field(default=False, description="train scales and offsets, too")
    images: int = Field(default=16, ge=1, description="calibration images")


class DistilConfig(_Strict):
    """Weights of the losses against a teacher in floating point; 0 leaves one out."""

    mask: float = Field(default=0.0, ge=0, description="divergence of mask logits")
    embedding: float = Field(default=0.0, ge=0, description="squared error of the embedding")
    teacher: str | None = Field(
        default=None, description="folder of a fine-tuning; the base in floating point if null"
    )


class FreezeConfig(_Strict):
    """Rows of the attention's weights that no adapter touches (ov-freeze and its ablation)."""

    rows: FreezeSet = Field(
        default="none", description="o: all of proj; q, k, v: their rows of qkv"
    )
    start: float = Field(
        default=0.0, ge=0, lt=1,
        description="share of the steps after which they keep the values that they then have",
    )  # fmt: skip


class ArchConfig(_Strict):
    """Stage-wise optimization of adapters with parameters of a relaxed architecture."""

    rate: float = Field(default=3e-4, gt=0, description="of Adam, constant")
    weight_decay: float = Field(default=1e-3, ge=0)
    split: float = Field(
        default=0.2, ge=0, lt=1, description="share of train held out for them; 0: all of train"
    )
    warmup: float = Field(default=0.3, ge=0, lt=1, description="share of the steps without them")
    frozen: float = Field(
        default=0.15, ge=0, lt=1, description="share at the end with them frozen, for annealing"
    )
    anneal: bool = Field(
        default=True, description="end with adapters that a weight can replace, if they can anneal"
    )

    @model_validator(mode="after")
    def _some_are_left(self) -> Self:
        if self.warmup + self.frozen >= 1:
            raise ValueError(
                f"arch.warmup {self.warmup:g} and arch.frozen {self.frozen:g} leave no step to "
                "train the architecture in; their sum must be below 1"
            )
        return self


class _Rates(_Strict):
    """Peak learning rates of AdamW."""

    weights: float = Field(default=1e-3, gt=0, description="of adapters")
    gate: float = Field(default=1e-3, gt=0, description="of adapters' gates")
    magnitude: float = Field(default=1e-3, gt=0, description="of adapters' magnitudes")
    bitfit: float = Field(default=1e-3, gt=0, description="biases and norms")
    full: float = Field(default=1e-4, gt=0, description="the image encoder")
    decoder: float = Field(default=2e-4, gt=0)
    scales: float = Field(default=1e-5, gt=0, description="scales and offsets, if learned")


class _Validation(_Strict):
    """How the model is judged on val: some images for the curve, more before and after."""

    every: int = Field(default=100, ge=1, description="steps")
    images: int = Field(default=8, ge=1)
    prompts: int = Field(default=10, ge=1, description="objects an image at most")
    final_images: int | None = Field(default=None, ge=1, description="all if null")
    final_prompts: int | None = Field(default=None, ge=1, description="all if null")


class FinetuneConfig(_Strict):
    """A recipe. Unknown keys are refused; the resolved form is written into the run folder."""

    base: str = Field(default="sam-vit-t", description="shipped name, or a checkpoint")
    arch: str | None = Field(
        default=None, description="one subnet of the base's supernet: largest, or a file of archs"
    )
    adapter: KindConfig = KindConfig()
    train_decoder: bool = Field(default=False, description="the mask decoder, too")
    quantizer: QuantizerConfig | None = Field(default=None, description="none: floating point")
    distil: DistilConfig = DistilConfig()
    task: float = Field(default=1.0, ge=0, description="weight of the loss against the annotation")
    freeze: FreezeConfig = FreezeConfig()
    architecture: ArchConfig = ArchConfig()
    harden: float = Field(
        default=0.2, ge=0, le=1, description="share of the steps with soft gates, then 0 or 1"
    )
    kinds: tuple[str, ...] | None = Field(
        default=None, description="of images (the column kind of split.csv); all if null"
    )
    resolution: int | None = Field(default=None, ge=32, description="the base's largest if null")
    images: int = Field(default=2, ge=1, description="a step")
    prompts: int = Field(default=8, ge=2, description="an image, half boxes and half points")
    steps: int = Field(default=500, ge=1)
    rates: _Rates = _Rates()
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup: float = Field(default=0.02, ge=0, lt=1, description="share of the steps")
    clip: float = Field(default=1.0, gt=0, description="gradient norm")
    ema: float = Field(default=0.99, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    crop: float = Field(default=0.5, ge=0, le=1, description="share of views that are crops")
    recolor: float = Field(default=0.25, ge=0, le=1, description="share that are recolored")
    min_pixels: int = Field(default=10, ge=1, description="smaller objects are not prompted")
    box_jitter: float = Field(default=0.06, ge=0, description="share of the box's side")
    validation: _Validation = _Validation()

    @property
    def reference(self) -> str | None:
        """`bitfit`, `full` or `decoder` where no adapter is trained."""
        return self.adapter.kind if self.adapter.kind in REFERENCES else None

    @property
    def adapts(self) -> bool:
        """Whether adapters of a registered kind are trained."""
        return self.adapter.kind not in (*REFERENCES, *SIDE_NETWORKS)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = []
        if self.reference is not None and self.adapter.options:
            problems.append(f"{self.reference} takes no adapter.options")
        if self.adapter.kind in SIDE_NETWORKS:
            given = {"quantizer": self.quantizer is not None,
                     "freeze.rows": self.freeze.rows != "none",
                     "adapter.targets": self.adapter.targets is not None}  # fmt: skip
            problems += [
                f"{name}: {self.adapter.kind} stands beside the encoder and changes no layer of it"
                for name, there in given.items() if there
            ]  # fmt: skip
        if self.freeze.rows != "none" and self.reference in ("bitfit", "decoder"):
            problems.append(f"freeze.rows: {self.reference} trains no weight of the attention")
        if self.freeze.rows != "none" and self.quantizer is not None and self.quantizer.learned:
            problems.append("freeze.rows: rows are frozen on fixed grids; drop quantizer.learned")
        if self.arch is not None and self.quantizer is not None:
            problems.append("quantizer: a subnet (arch) has bit-widths of its own")
        if self.arch is not None and self.freeze.rows != "none":
            problems.append("freeze.rows: not for a subnet (arch); attach to a plain model")
        if not (self.task or self.distil.mask or self.distil.embedding):
            problems.append("task, distil.mask and distil.embedding are all 0: nothing to learn")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def load_finetuning(
    path: str | Path, changes: Mapping[str, object] | None = None
) -> FinetuneConfig:
    """Read a recipe; `changes` replace its keys, with dots to reach inside (`adapter.kind`).

    Raises:
        ConfigError: listing every problem of the file at once.
    """
    return changed_finetuning(read_yaml(path), changes or {}, source=str(path))


def changed_finetuning(
    content: Mapping[str, Any], changes: Mapping[str, object], *, source: str
) -> FinetuneConfig:
    """Validate `content` with `changes`; `source` names it in errors."""
    try:
        return FinetuneConfig.model_validate(with_changes(content, changes, source=source))
    except ValidationError as error:
        raise config_error(source, error, FinetuneConfig) from error
