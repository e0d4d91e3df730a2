"""Which part of a promptable network a cost is for, and for how many prompts."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from hwnas.errors import CostError

Part: TypeAlias = Literal["encoder", "system"]


def decoder_runs(part: Part, prompts: int, *, by: str) -> int:
    """Return how often the layers of one prompt run: not at all for the encoder.

    Raises:
        CostError: `part` is unknown or `prompts` is not a whole number from 1; names the model.
    """
    if part not in get_args(Part):
        raise CostError(f"cost model {by}: part={part!r}; expected one of {get_args(Part)}")
    if isinstance(prompts, bool) or not isinstance(prompts, int) or prompts < 1:
        raise CostError(f"cost model {by}: prompts={prompts!r}; expected a whole number from 1")
    return 0 if part == "encoder" else prompts
