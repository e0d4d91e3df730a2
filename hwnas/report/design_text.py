"""A design in a few words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean

from hwnas.report.quantity import format_number

__all__ = ["design_summary"]

Scalar = str | int | float | bool
_ABOUT_BITS = re.compile(r"(?:^|[._])(w|a|attn)_bits$")
_MOST_OTHERS = 3


def design_summary(genes: Mapping[str, Scalar]) -> str:
    """Describe a design by the genes that every space spells alike: `384 px · depth 10 · ...`.

    `resolution` is shown in px; genes of depth (`depth`, `keep.0`, `encoder.depth`) are summed;
    up to three other kinds of gene follow, each with its value, or the mean over the blocks, or
    the number of different options where they are not numbers; `w_bits` and `a_bits` are plain
    means over the layers that have them, and say `(mean)` where the layers differ. Bits of
    attention products are left out.
    """
    kinds = _by_kind(genes)
    parts = [f"{value} px" for value in kinds.pop("resolution", ())]
    depth = [*kinds.pop("depth", ()), *kinds.pop("keep", ())]
    if depth:
        parts.append(f"depth {_sum(depth)}")
    bits = {mark: kinds.pop(f"{mark}_bits", []) for mark in ("w", "a")}
    kinds.pop("attn_bits", None)
    others = [_short(kind, values) for kind, values in kinds.items()]
    parts += others[:_MOST_OTHERS]
    parts += _bits({mark: values for mark, values in bits.items() if values})
    return " \N{MIDDLE DOT} ".join(parts) or "no genes"


def _by_kind(genes: Mapping[str, Scalar]) -> dict[str, list[Scalar]]:
    """Values by the last word of the gene's name that is not an index."""
    kinds: dict[str, list[Scalar]] = {}
    for name, value in genes.items():
        bits = _ABOUT_BITS.search(name)
        words = [word for word in name.split(".") if not word.isdigit()]
        kind = f"{bits[1]}_bits" if bits else (words or [name])[-1]
        kinds.setdefault(kind, []).append(value)
    return kinds


def _numbers(values: Sequence[Scalar]) -> list[float] | None:
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    return numbers if len(numbers) == len(values) else None


def _sum(values: Sequence[Scalar]) -> str:
    numbers = _numbers(values)
    return format_number(sum(numbers)) if numbers else "/".join(map(str, values))


def _short(kind: str, values: Sequence[Scalar]) -> str:
    numbers = _numbers(values)
    if len(set(values)) == 1:
        return f"{kind} {values[0]}"
    if numbers:
        return f"{kind} {_mean(numbers)}"
    return f"{kind} {len(set(values))} kinds"


def _mean(numbers: Sequence[float]) -> str:
    mean = fmean(numbers)
    return f"{mean:.1f}" if abs(mean) < 100 and mean != int(mean) else f"{mean:.0f}"


def _bits(bits: Mapping[str, Sequence[Scalar]]) -> list[str]:
    numbers = {mark: _numbers(values) for mark, values in bits.items()}
    words = [f"{mark} {_one_or_mean(n)}" for mark, n in numbers.items() if n]
    if not words:
        return []
    mixed = any(n and len(set(n)) > 1 for n in numbers.values())
    return [f"{' '.join(words)} bits{' (mean)' if mixed else ''}"]


def _one_or_mean(numbers: Sequence[float]) -> str:
    return format_number(numbers[0]) if len(set(numbers)) == 1 else f"{fmean(numbers):.1f}"
