"""Which parameters of a supernet a phase trains, and how fast."""

from __future__ import annotations

from torch import nn

from hwnas.config.training import TrainConfig
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.training.elastic.phases import TEACHER, Phase
from hwnas.supernet.training.stage import ParameterGroup

__all__ = ["kind_of", "parameter_groups"]

_LOW = 3  # bits that count as low
_DECODER = ("sam.mask_decoder.", "sam.prompt_encoder.no_mask_embed")
_ENCODER = "sam.image_encoder."
_PATCH = "sam.image_encoder.patch_embed."


def parameter_groups(
    supernet: SamSupernet, phase: Phase, config: TrainConfig
) -> list[ParameterGroup]:
    """The groups of a phase; everything else is frozen (`requires_grad` off).

    Adapters, or with layout `none` all weights of the encoder; LayerNorm affines and biases; scales
    and offsets of the bit-widths that are open; the mask decoder if the recipe trains it. Scales
    have no weight decay and are left out of gradient clipping.
    """
    rates, decay = config.rates, config.weight_decay
    kinds = {
        "adapters": (rates.adapters, decay, True),
        "weights": (rates.weights, decay, True),
        "norms": (rates.norms, 0.0, True),
        "scales": (rates.scales, 0.0, False),
        "low_scales": (rates.low_scales, 0.0, False),
        "decoder": (rates.decoder, decay, True),
    }
    members: dict[str, list[tuple[str, nn.Parameter]]] = {kind: [] for kind in kinds}
    for name, parameter in supernet.named_parameters():
        kind = kind_of(name, parameter, config)
        trained = kind is not None and (phase.name != TEACHER or "scales" not in kind)
        parameter.requires_grad_(trained)
        if kind is not None and trained:
            members[kind].append((name, parameter))
    return [
        ParameterGroup(kind, members[kind], rate * phase.rate, weight_decay, clip)
        for kind, (rate, weight_decay, clip) in kinds.items()
        if members[kind]
    ]


def kind_of(name: str, parameter: nn.Parameter, config: TrainConfig) -> str | None:
    """The group of a parameter of a supernet; None for one that no phase trains."""
    if name.startswith("encoder.scales."):
        return "low_scales" if _bits(name) <= _LOW else "scales"
    if name.startswith("encoder.adapters."):
        return "adapters"
    if name.startswith(_DECODER):
        return "decoder" if config.train_decoder else None
    if not name.startswith(_ENCODER):
        return None
    whole = config.adapter.layout == "none"
    if parameter.ndim == 1 and not name.startswith(_PATCH):
        return "norms"
    return "weights" if whole else None


def _bits(name: str) -> int:
    return int(name.replace("/", ".").rpartition(".")[2])
