"""Weights taken apart into magnitude and direction (DoRA).

Source: Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation" (2024), equations 5 and 11:
W' = m (W + B A) / ||W + B A||, the norm of each output row, taken as a constant in backward; m
starts as the norms of W. Two things differ. The low-rank pair belongs to the adapter itself and
enters before the norm. And m is kept beside the norms m0 that it started from, the row gain being
(m / m0) (||W|| / ||W + B A||): for a whole matrix this is the paper's equation, for a slice of it
a fresh adapter still changes nothing, and of two adapters the gains multiply.
"""

from __future__ import annotations

import torch
from torch import nn

from hwnas.adapters.contract import MatrixSlice, WeightAdapter
from hwnas.adapters.kinds.lora import LoraAdapter
from hwnas.errors import ConfigError

__all__ = ["DoraAdapter", "fold_magnitude", "split_magnitude"]

_TINY = 1e-12  # a row of zeros has the gain 1, not 0 / 0


class DoraAdapter(WeightAdapter):
    """Gives each row the magnitude m (O,) and the direction of W + (alpha / rank) B A.

    `rank`, `alpha` and `split_qkv` are those of LoRA; rank 0 trains the magnitude alone. Beside
    learned scales of a quantizer m says nothing new; `train_magnitude=False` keeps it as it is.
    """

    role = "transform"
    norm: torch.Tensor

    def __init__(
        self,
        whole: MatrixSlice,
        *,
        rng: torch.Generator,
        rank: int = 8,
        alpha: float | None = None,
        split_qkv: bool = False,
        train_magnitude: bool = True,
    ) -> None:
        super().__init__(whole)
        if rank < 0 or (rank == 0 and not train_magnitude):
            raise ConfigError(
                f"rank {rank}, train_magnitude {train_magnitude}: nothing is left to train; "
                "expected a rank of 1 or more, or 0 to train the magnitude alone"
            )
        self.rank = rank
        self.pair: LoraAdapter | None = None
        if rank:
            self.pair = LoraAdapter(whole, rng=rng, rank=rank, alpha=alpha, split_qkv=split_qkv)
        self.magnitude = nn.Parameter(torch.ones(whole.shape[0]), requires_grad=train_magnitude)
        self.register_buffer("norm", torch.ones(whole.shape[0]))

    @torch.no_grad()
    def fit(self, weight: torch.Tensor, gradient: torch.Tensor | None = None) -> None:
        """Take the row norms of the frozen weight (O, I) as the magnitude."""
        del gradient
        self.norm = weight.float().norm(dim=1)
        self.magnitude.copy_(self.norm)

    def transform(self, weight: torch.Tensor, part: MatrixSlice) -> torch.Tensor:
        """The active part (O, I) with the trained direction and magnitude of each row."""
        direction = weight if self.pair is None else weight + self.pair.delta(part)
        with torch.no_grad():  # the denominator is a constant in the paper too, section 4.3
            change = (weight.norm(dim=1) + _TINY) / (direction.norm(dim=1) + _TINY)
        gain = part.rows((self.magnitude + _TINY) / (self.norm + _TINY))
        result: torch.Tensor = (gain * change)[:, None] * direction
        return result

    def trainable_groups(self) -> dict[str, list[nn.Parameter]]:
        """The pair as `weights`, m as `magnitude`."""
        pair = [] if self.pair is None else list(self.pair.parameters())
        groups = {"weights": pair, "magnitude": [self.magnitude]}
        kept = {name: [p for p in found if p.requires_grad] for name, found in groups.items()}
        return {name: found for name, found in kept.items() if found}


def split_magnitude(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row norms m (O,) and directions D (O, I) of a weight, whose product m D is the weight."""
    magnitude = weight.norm(dim=1)
    return magnitude, weight / (magnitude + _TINY)[:, None]


def fold_magnitude(scale: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """The scale (O,) of m D, given that of D: the integers stay, their step is multiplied.

    Q(m D) = m Q(D) for every grid of one scale an output channel, so that each bit-width, and
    each adapter, may have a magnitude of its own over the same integers. m > 0, as norms are.

    Raises:
        ConfigError: a magnitude is not positive, or is not one number an output channel.
    """
    if magnitude.shape != scale.shape:
        raise ConfigError(
            f"magnitude {tuple(magnitude.shape)} for scales {tuple(scale.shape)}; expected one "
            "number for each output channel"
        )
    if not bool((magnitude > 0).all()):
        raise ConfigError(
            f"{int((magnitude <= 0).sum())} magnitudes are not positive; a grid has one code more "
            "below zero than above, so a sign cannot move into its scale: put it into the direction"
        )
    return scale * magnitude
