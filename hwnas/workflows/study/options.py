"""What may be said about a study, and what it runs on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.data.labeled import LabeledImage
from hwnas.errors import ConfigError
from hwnas.registry.loading import import_attribute
from hwnas.space import SearchSpace
from hwnas.supernet.evaluation import PROMPT_KINDS, PromptKind
from hwnas.supernet.identity import supernet_identity
from hwnas.workflows.evaluate.data import EvaluationData, open_data

__all__ = ["StudyOptions", "Subject", "hash_images", "images_of", "load_subject"]


@dataclass(frozen=True)
class StudyOptions:
    """Settings of an effective-search-space study.

    Attributes:
        split: Rows of the data's split.csv, where it has one; never choose a space on test.
        prompt: Prompts for quality, box or point.
        max_images: Images of the split, drawn with `seed` where there are more; all if None.
        max_objects: Objects prompted of an image, drawn with `seed` where there are more.
        seed: Of these draws and of random architectures.
        quality: False counts BitOPs alone and needs neither weights nor images.
        floating: Also measure resolution, feature size, width and depth with nothing quantized.
        archs_per_value: 1 measures a value with all else at its largest; each further one adds a
            random architecture, with and without the value.
        sensitivity_images: Images for single changes of a layer's bits; 0 leaves them out.
        top: Single changes whose IoU is measured, those of the highest noise of each bit-width.
        tolerance: Points below the front, or lost by a layer alone, that a kept value may have.
        max_loss: Points lost alone beyond which no value is kept.
        axes: Names of the axes to study; all if empty.
        synthetic: The weights mean nothing: measure, and show no figure of quality.

    Raises:
        ConfigError: values that make no sense, all of them.
    """

    split: str | None = "val"
    prompt: PromptKind = "box"
    max_images: int | None = 16
    max_objects: int = 32
    seed: int = 0
    quality: bool = True
    floating: bool = True
    archs_per_value: int = 1
    sensitivity_images: int = 8
    top: int = 18
    tolerance: float = 1.0
    max_loss: float = 10.0
    axes: tuple[str, ...] = ()
    synthetic: bool = False

    def __post_init__(self) -> None:
        least = {
            "max_images": 1, "max_objects": 1, "archs_per_value": 1, "sensitivity_images": 0,
            "top": 0, "tolerance": 0, "max_loss": 0,
        }  # fmt: skip
        wrong = [
            f"--{name.replace('_', '-')} {getattr(self, name)}: expected {low} or more"
            for name, low in least.items()
            if getattr(self, name) is not None and not getattr(self, name) >= low
        ]
        if self.prompt not in PROMPT_KINDS:
            wrong.append(f"--prompt {self.prompt}: expected {' or '.join(PROMPT_KINDS)}")
        if wrong:
            raise ConfigError("; ".join(wrong))


@dataclass(frozen=True)
class Subject:
    """The weights of a study: a supernet, what it is called, and what identifies it."""

    supernet: Any
    name: str
    identity: str | None
    synthetic: bool


def load_subject(space: SearchSpace, source: object | None) -> Subject:
    """Load a supernet by name or file, by default the one that ships under the space's name.

    A file whose metadata, or its notes, say `synthetic` holds weights that mean nothing. A supernet
    in memory is taken as it is.

    Raises:
        ConfigError: the space names no supernet.
        CheckpointError: the file cannot be used.
    """
    if source is not None and not isinstance(source, str | Path):
        return Subject(source, type(source).__name__, supernet_identity(source), synthetic=False)
    if space.supernet is None:
        raise ConfigError(
            f"the space {space.name} names no supernet; give one that does, or count BitOPs alone "
            "with --no-quality"
        )
    name = space.name if source is None else str(source)
    builder: Any = import_attribute(space.supernet, "supernet")
    supernet = builder(name)
    return Subject(supernet, Path(name).name, supernet_identity(supernet), _says_synthetic(name))


def images_of(
    data: str | Path | Sequence[LabeledImage] | None, options: StudyOptions
) -> EvaluationData:
    """The images of a study; those given in memory are taken as they are.

    Raises:
        DataError: the folder cannot be used.
    """
    if data is None or isinstance(data, str | Path):
        return open_data(
            data, split=options.split, max_images=options.max_images, seed=options.seed
        )
    return EvaluationData("given", tuple(data)[: options.max_images])


def hash_images(images: Sequence[LabeledImage]) -> str:
    """Sha256 (hex) of names, pixels and object ids."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.name.encode())
        digest.update(image.image.tobytes())
        digest.update(image.instances.tobytes())
    return digest.hexdigest()


def _files(name: str) -> list[Path]:
    from hwnas.supernet.checkpoint import asset_path
    from hwnas.supernet.sam_supernet import supernet_beside, supernet_path

    if Path(name).is_file():
        found = (supernet_beside(name), Path(name))
    else:
        found = (supernet_path(name), asset_path(name))
    return [path for path in found if path is not None]


def _says_synthetic(name: str) -> bool:
    from hwnas.supernet.checkpoint import read_metadata

    said = [read_metadata(path) for path in _files(name)]
    return any(
        metadata.get("synthetic", "").lower() in {"true", "1", "yes"}
        or bool(json.loads(metadata.get("notes") or "{}").get("synthetic"))
        for metadata in said
    )
