"""What may be said about a study of signal propagation, and the recipes that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from hwnas.config.finetuning import FinetuneConfig, FreezeSet, changed_finetuning
from hwnas.errors import ConfigError
from hwnas.quant.bits import BITS, FLOAT_BITS

__all__ = ["FLOAT", "Bits", "PropagationOptions", "label_of", "read_bits", "recipe_of",
           "training_recipe"]  # fmt: skip

Bits = tuple[int, int]
"""Of weights and of inputs."""
FLOAT: Bits = (FLOAT_BITS, FLOAT_BITS)
_INPUT_BITS = 8  # where bits of weights are given alone
_KD_QAT: Mapping[str, object] = {"adapter.kind": "full", "distil.mask": 1.0,
                                 "distil.embedding": 1.0}  # fmt: skip
_OWN = ("base", "arch", "quantizer", "steps")


@dataclass(frozen=True, slots=True)
class PropagationOptions:
    """Settings of a study of signal propagation.

    Attributes:
        bits: Pairs of bits of weights and inputs; (32, 32) is floating point once more.
        seeds: Draws of views, prompts and calibration images, and trainings of each kind.
        batches: Batches of each seed.
        split: Images to look at, where the data has splits.
        max_images: Images of the split, drawn with `seed` where there are more.
        calibration: Of these, images that the ranges of inputs are measured on, drawn by each seed.
        seed: The first of the seeds.
        overrides: Keys of the recipe of a fine-tuning and their values, with dots to reach inside;
            by default that of KD-QAT: all weights, and both distances from the teacher.
        train: Steps of a fine-tuning for each of `freezes`, `train_bits` and the seeds; 0: none.
        freezes: Rows to freeze in these, as in `hwnas finetune --freeze`.
        train_bits: Bits of these.

    Raises:
        ConfigError: values that make no sense, all of them.
    """

    bits: tuple[Bits, ...] = (FLOAT, (8, 8), (4, 8), (3, 8), (2, 8))
    seeds: int = 1
    batches: int = 4
    split: str = "train"
    max_images: int = 32
    calibration: int = 16
    seed: int = 0
    overrides: Mapping[str, object] = field(default_factory=dict)
    train: int = 0
    freezes: tuple[str, ...] = ("none", "ov")
    train_bits: tuple[Bits, ...] = ((4, 8),)

    def __post_init__(self) -> None:
        least = {"seeds": 1, "batches": 1, "max_images": 1, "calibration": 1, "train": 0}
        wrong = [
            f"--{name.replace('_', '-')} {getattr(self, name)}: expected {low} or more"
            for name, low in least.items()
            if getattr(self, name) < low
        ]
        wrong += [_problem("--bits", one) for one in self.bits if one != FLOAT]
        wrong += [_problem("--train-bits", one) for one in self.train_bits if one != FLOAT]
        wrong += [
            f"--freeze {name}: expected one of {', '.join(get_args(FreezeSet))}"
            for name in self.freezes
            if name not in get_args(FreezeSet)
        ]
        for name in ("bits", "train_bits", "freezes"):
            given = getattr(self, name)
            if not given or len(set(given)) < len(given):
                wrong.append(f"{name}: got {list(given)}, expected some, each once")
        if any(wrong):
            raise ConfigError("; ".join(problem for problem in wrong if problem))

    @property
    def all_seeds(self) -> range:
        """The seeds."""
        return range(self.seed, self.seed + self.seeds)


def recipe_of(base: str, overrides: Mapping[str, object]) -> FinetuneConfig:
    """The recipe whose losses are differentiated; bits and frozen rows are the study's.

    Raises:
        ConfigError: `overrides` say something that the study says, or leave no loss to compare.
    """
    taken = [key for key in overrides if key.partition(".")[0] in _OWN or key == "freeze.rows"]
    if taken:
        raise ConfigError(
            f"--set {', '.join(taken)}: the study sets these; use --base, --bits, --calibration, "
            "--freeze and --train (the layers of a subnet, arch, carry no such quantizers)"
        )
    config = changed_finetuning({"base": base}, {**_KD_QAT, **overrides}, source="the recipe")
    if not config.task:
        raise ConfigError(
            "--set task=0: without a loss against the annotation the gradient in floating point "
            "is zero, and there is nothing to compare with; expected a weight above 0"
        )
    return config


def training_recipe(
    config: FinetuneConfig, *, bits: Bits, freeze: str, steps: int, images: int
) -> FinetuneConfig:
    """The recipe of one fine-tuning.

    Raises:
        ConfigError: what it trains has no such rows.
    """
    quantizer = None
    if bits != FLOAT:
        quantizer = {"w_bits": bits[0], "a_bits": bits[1], "images": images}
    changes = {"steps": steps, "freeze.rows": freeze, "quantizer": quantizer}
    return changed_finetuning(config.model_dump(), changes, source=f"--freeze {freeze}")


def read_bits(texts: Sequence[str], option: str) -> tuple[Bits, ...]:
    """Bits from words such as `32`, `4` (inputs have 8 then) and `4,6`.

    Raises:
        ConfigError: one is no such word.
    """
    found = []
    for text in texts:
        words = [word.strip() for word in text.split(",")]
        if len(words) > 2 or not all(word.isdigit() for word in words):
            raise ConfigError(
                f"{option} {text}: expected bits of weights, as 4, or of weights and inputs, as "
                f"4,8; {FLOAT_BITS} is floating point"
            )
        numbers = [int(word) for word in words]
        if len(numbers) == 1:
            numbers.append(FLOAT_BITS if numbers == [FLOAT_BITS] else _INPUT_BITS)
        found.append((numbers[0], numbers[1]))
    return tuple(found)


def label_of(bits: Bits) -> str:
    """`W4A8`, or `float`."""
    return "float" if bits == FLOAT else f"W{bits[0]}A{bits[1]}"


def _problem(option: str, bits: Bits) -> str:
    if all(one in BITS for one in bits):
        return ""
    return (
        f"{option} {bits[0]},{bits[1]}: quantizers exist for {', '.join(map(str, BITS))} bits; "
        f"{FLOAT_BITS} alone leaves weights and inputs in floating point"
    )
