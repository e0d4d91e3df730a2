"""What is fine-tuned, seen by the steps: something that embeds images, and its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from hwnas.adapters import WeightAdapter
from hwnas.config.finetuning import FinetuneConfig
from hwnas.errors import CheckpointError, ConfigError
from hwnas.supernet.training.stage import ParameterGroup

__all__ = [
    "ARCH",
    "Groups",
    "Student",
    "parameter_groups",
    "reference_groups",
    "require_free",
    "settle",
]

Groups = dict[str, list[tuple[str, nn.Parameter]]]
ARCH = "arch"
"""The group of a relaxed architecture, which has an optimizer of its own."""
_TAKEN = ("name", "seed", "targets", "kind", "gradients", "rng")
_DECODER, _ENCODER = "mask_decoder.", "image_encoder."


class Embedder(Protocol):
    """Something that embeds images; `sam` decodes what it embeds."""

    @property
    def module(self) -> nn.Module:
        """Itself, or what it is made of."""
        ...

    @property
    def sam(self) -> Any:
        """The model of the prompt encoder and the mask decoder."""
        ...

    @property
    def adapters(self) -> Sequence[WeightAdapter]:
        """All adapters that act."""
        ...

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Normalized images (B, 3, R, R) to embeddings (B, 256, R / 16, R / 16)."""
        ...


class Student(Embedder, Protocol):
    """A module that is fine-tuned; its parameters have the names of `groups`."""

    def groups(self) -> Groups:
        """Trained parameters with their names in `module`, by what they are."""
        ...

    def write_adapters(self, place: Path) -> list[Path]:
        """Write the adapters as what lies in `place`; the files, none without adapters."""
        ...

    def tuned_tensors(self) -> dict[str, torch.Tensor]:
        """Everything but adapters that fine-tuning has made or changed, by name."""
        ...

    def load_tuned(self, tuned: Mapping[str, torch.Tensor], *, source: str) -> None:
        """Take these over; raises CheckpointError where names or shapes differ."""
        ...


def parameter_groups(
    groups: Groups, config: FinetuneConfig, *, prefix: str = ""
) -> list[ParameterGroup]:
    """The groups of a stage: rates by what parameters are; those of `arch` are not among them.

    `prefix` comes before the names, as in the module of the stage.
    Weights of adapters, encoder and decoder decay; gates, magnitudes, norms and scales do not.
    Scales are left out of gradient clipping. A group of another name has the rate of `weights`.
    """
    rates = config.rates.model_dump()
    return [
        ParameterGroup(
            name, [(f"{prefix}{own}", parameter) for own, parameter in parameters],
            rates.get(name, config.rates.weights),
            config.weight_decay if name in ("weights", "full", "decoder") else 0.0,
            clip=name != "scales",
        )
        for name, parameters in groups.items()
        if name != ARCH and parameters
    ]  # fmt: skip


def reference_groups(
    named: Iterable[tuple[str, nn.Parameter]], config: FinetuneConfig, *, prefix: str
) -> Groups:
    """What trains of the model itself; `named` are its parameters, `prefix` comes before them."""
    groups: Groups = {}
    for name, parameter in named:
        if not name.startswith(prefix) or ".quantizer." in name or ".adapters." in name:
            continue
        own = name.removeprefix(prefix)
        if own.startswith(_DECODER) and (config.train_decoder or config.reference == "decoder"):
            groups.setdefault("decoder", []).append((name, parameter))
        elif own.startswith(_ENCODER) and (
            config.reference == "full" or (config.reference == "bitfit" and _small(own, parameter))
        ):
            groups.setdefault(str(config.reference), []).append((name, parameter))
    return groups


def settle(adapters: Iterable[WeightAdapter]) -> None:
    """Let adapters read off their buffers what they are now, as loading a state dict does."""
    for adapter in adapters:
        adapter.load_state_dict(adapter.state_dict())


@torch.no_grad()
def copy_tensors(
    given: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], *, source: str
) -> None:
    """Copy tensors by name, all or none; raises CheckpointError where names or shapes differ."""
    wrong = sorted(set(own) ^ set(given)) or [
        name for name, value in given.items() if own[name].shape != value.shape
    ]
    if wrong:
        raise CheckpointError(
            f"{source}: {len(wrong)} tensors are missing, unexpected or of another shape "
            f"({', '.join(wrong[:4])}); the folder is damaged, or of another version"
        )
    for name, value in given.items():
        own[name].copy_(value)


def require_free(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for adapter options whose names say something else here."""
    taken = sorted(set(options) & set(_TAKEN))
    if taken:
        raise ConfigError(
            f"adapter.options {', '.join(taken)}: no option of an adapter may have these names; "
            "targets are adapter.targets, the seed is --seed"
        )


def _small(name: str, parameter: nn.Parameter) -> bool:
    return name.endswith(".bias") or parameter.ndim == 1
