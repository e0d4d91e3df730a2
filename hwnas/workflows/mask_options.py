"""What pictures of masks in a report show, as the user asks for it; needs no torch to read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hwnas.errors import ConfigError

__all__ = ["MaskOptions", "mask_options"]

Prompt = Literal["box", "point"]
Heat = Literal["grad-cam", "hires-cam"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOptions:
    """How many images and objects, prompted how, under which heat map.

    Attributes:
        images: Images; 0 leaves the pictures out, None takes as many as the report is used to.
        objects: Objects of an image that are prompted, at most.
        prompt: `box` or `point`.
        heat: `grad-cam` or `hires-cam`, see `hwnas.supernet.heat_map`.
        layer: Whose activations the heat maps show: `embedding`, or a block such as `blocks.3`.
        data: A folder of images in place of the one that the run used.
        base: Where the base of a fine-tuning lies, if not where it was.
    """

    images: int | None = None
    objects: int = 8
    prompt: Prompt = "box"
    heat: Heat = "hires-cam"
    layer: str = "embedding"
    data: Path | None = None
    base: str | None = None


def mask_options(*, prompt: str, heat: str, **others: Any) -> MaskOptions:
    """Options from words.

    Raises:
        ConfigError: a word is none of those that exist.
    """
    prompts: dict[str, Prompt] = {"box": "box", "point": "point"}
    heats: dict[str, Heat] = {"grad-cam": "grad-cam", "hires-cam": "hires-cam"}
    for name, word, known in (("prompt", prompt, prompts), ("heat", heat, heats)):
        if word not in known:
            raise ConfigError(f"--{name} {word}: expected {' or '.join(known)}")
    return MaskOptions(prompt=prompts[prompt], heat=heats[heat], **others)
