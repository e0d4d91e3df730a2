"""What must hold between the fields of a device file, and which figures are plausible.

Works on the plain data of the file and skips what is malformed: the schema reports that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from hwnas.device.efficiency import LAYER_KINDS
from hwnas.device.execution import OPERAND_BITS
from hwnas.device.reading import number_of

__all__ = ["inconsistencies"]

Finding = tuple[tuple[int | str, ...], str]

PLAUSIBLE: Final[dict[str, tuple[float, float, str]]] = {
    "peak_tops_dense": (1e-5, 1e5, "TOPS"),
    "bandwidth_gbps": (1e-3, 1e5, "GB/s"),
    "cache_bytes": (64, 2**34, "bytes"),
    "ram_bytes": (2**10, 2**44, "bytes"),
    "power_w": (1e-4, 1e5, "W"),
    "launch_us": (1e-3, 1e6, "us"),
    "efficiency": (1e-6, 1.0, "of the peak"),
    "channel_multiple": (1, 4096, "channels"),
    "sparse_2_4_factor": (1, 2, "times the dense peak"),
}
"""Smallest and largest value that a figure can have in its unit; beyond lies a slip of the unit."""


def inconsistencies(data: Mapping[str, object]) -> list[Finding]:
    """Return (location, message) of everything that contradicts something else in `data`."""
    findings = [*_mode_choice(data), *_pairs(data), *_fallback(data), *_figures(data)]
    for name, mode in _mapping(data.get("modes")).items():
        location = ("modes", name)
        findings += [((*location, *where), text) for where, text in _figures(_mapping(mode))]
    return findings


def _mode_choice(data: Mapping[str, object]) -> Iterator[Finding]:
    modes, default = _mapping(data.get("modes")), data.get("default_mode")
    if modes and default is None:
        yield ("default_mode",), f"missing; name one of the modes: {', '.join(map(str, modes))}"
    elif default is not None and default not in modes:
        near = get_close_matches(str(default), [str(m) for m in modes], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield ("default_mode",), f"{default!r} is none of the modes ({_listed(modes)}){hint}"
    if modes and data.get("calibration") is not None:
        yield ("calibration",), "belongs to one mode: put it under modes.<name>.calibration"


def _pairs(data: Mapping[str, object]) -> Iterator[Finding]:
    pairs, seen = data.get("pairs"), set[tuple[object, object]]()
    for index, item in enumerate(pairs if isinstance(pairs, list) else []):
        pair, location = _mapping(item), ("pairs", index)
        w, a, dtype = pair.get("w"), pair.get("a"), pair.get("runs_as")
        if not isinstance(w, int) or not isinstance(a, int):
            continue
        if (w, a) in seen:
            yield location, f"w{w}a{a} is listed twice"
        seen.add((w, a))
        if isinstance(dtype, str) and dtype in OPERAND_BITS:
            yield from (((*location, "runs_as"), text) for text in _pair_texts(data, w, a, dtype))
        in_memory = pair.get("weight_bits_in_memory")
        if isinstance(in_memory, int) and in_memory < w:
            where = (*location, "weight_bits_in_memory")
            yield where, f"{in_memory} bits cannot hold a weight of {w}"


def _pair_texts(data: Mapping[str, object], w: int, a: int, dtype: str) -> Iterator[str]:
    if dtype not in _mapping(data.get("peak_tops_dense")):
        yield f"{dtype} has no figure in peak_tops_dense"
    w_full, a_full = OPERAND_BITS[dtype]
    if w > w_full or a > a_full:
        yield f"w{w}a{a} does not fit into {dtype} ({w_full} and {a_full} bits)"


def _fallback(data: Mapping[str, object]) -> Iterator[Finding]:
    fallback, peaks = data.get("fallback"), _mapping(data.get("peak_tops_dense"))
    if isinstance(fallback, str) and fallback in OPERAND_BITS and fallback not in peaks:
        yield ("fallback",), f"{fallback} has no figure in peak_tops_dense"


def _figures(data: Mapping[str, object]) -> Iterator[Finding]:
    """Check one level of figures: the device's own, or those of a mode."""
    for field, (low, high, unit) in PLAUSIBLE.items():
        for location, value in _values(data.get(field), (field,)):
            if not low <= value <= high:
                yield location, f"{value:g} {unit} is not plausible; expected {low:g} to {high:g}"
    for key in _mapping(data.get("efficiency")):
        kind, _, dtype = str(key).partition(".")
        if kind not in LAYER_KINDS or (dtype and dtype not in OPERAND_BITS):
            near = get_close_matches(kind, LAYER_KINDS, n=1)
            hint = f"; did you mean {near[0]}?" if near and not dtype else ""
            expected = f"{', '.join(LAYER_KINDS)}, or such as gemm.int8"
            yield ("efficiency", str(key)), f"unknown kind of layer{hint} Expected {expected}"
    power = dict(_values(data.get("power_w"), ()))
    if power.get(("min",), 0.0) > power.get(("max",), float("inf")):
        yield ("power_w",), f"min {power['min',]:g} W is above max {power['max',]:g} W"
    multiple = _number(data.get("channel_multiple"))
    if multiple is not None and multiple != int(multiple):
        yield ("channel_multiple",), f"{multiple:g} is not a whole number"


def _values(
    node: object, location: tuple[int | str, ...]
) -> Iterator[tuple[tuple[int | str, ...], float]]:
    """Yield the numbers of a figure, or of a mapping of figures."""
    value = _number(node)
    if value is not None:
        yield location, value
        return
    for key, child in _mapping(node).items():
        value = _number(child)
        if value is not None:
            yield (*location, str(key)), value


def _number(node: object) -> float | None:
    value = number_of(node.get("value") if isinstance(node, dict) else node)
    return value if value is not None and 0 < value < math.inf else None


def _mapping(node: object) -> dict[Any, object]:
    return node if isinstance(node, dict) else {}


def _listed(names: Mapping[object, object]) -> str:
    return ", ".join(map(str, names)) or "there are none"
