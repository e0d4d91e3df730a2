"""What goes wrong at few bits, as numbers: clipped weights, and codes that do not settle."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import torch

from hwnas.quant.bits import signed_codes
from hwnas.quant.lsq import positive
from hwnas.supernet.elastic_encoder import ElasticEncoder
from hwnas.supernet.scale_table import weight_key

__all__ = ["CodeWatch", "clipped_shares"]

_LOG = logging.getLogger(__name__)
_ALARM = 0.3  # share of clipped weights


@torch.no_grad()
def clipped_shares(encoder: ElasticEncoder, bits: Sequence[int]) -> dict[int, float]:
    """For each bit-width, which share of the blocks' weights lies outside its range.

    A share above 0.3 is logged as a warning: the scales have become too small.
    """
    shares = {}
    for b in bits:
        clipped = total = 0
        lowest, highest = signed_codes(b)
        for codes in _codes(encoder, b):
            clipped += int(((codes < lowest) | (codes > highest)).sum())
            total += codes.numel()
        shares[b] = clipped / max(total, 1)
        if shares[b] > _ALARM:
            _LOG.warning("%d bits: %.0f %% of the weights are clipped", b, 100 * shares[b])
    return shares


class CodeWatch:
    """Shares of weights whose code has changed since the last look."""

    def __init__(self, encoder: ElasticEncoder) -> None:
        self._encoder = encoder
        self._last: dict[int, list[torch.Tensor]] = {}

    @torch.no_grad()
    def flipped(self, bits: Sequence[int]) -> dict[int, float]:
        """For each bit-width the share of changed codes; none at the first look."""
        shares = {}
        for b in bits:
            limits = signed_codes(b)
            now = [c.clamp(*limits).to(torch.int8) for c in _codes(self._encoder, b)]
            if b in self._last:
                changed = sum(int((x != y).sum()) for x, y in zip(now, self._last[b], strict=True))
                shares[b] = changed / sum(x.numel() for x in now)
            self._last[b] = now
        return shares


def _codes(encoder: ElasticEncoder, bits: int) -> Iterator[torch.Tensor]:
    """Rounded, unclamped codes of every layer that carries scales of this bit-width in a block."""
    for name in encoder.scales.names():
        layer, _, key = name.partition(".weight.")
        if not layer.startswith("blocks.") or name != weight_key(layer, bits) or not key:
            continue
        weight = encoder.weight(layer, bits, bits)
        yield (weight / positive(encoder.scales[name])[:, None]).round()
