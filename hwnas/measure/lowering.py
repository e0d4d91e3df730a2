"""From the layers of a network to the kernels that run it.

A layer's pair of bit-widths decides the arithmetic by the device's profile. An integer kernel
quantizes its own input and scales its own output, so every activation between kernels is float32,
and layers without multiplications run in float32. The products and the softmax of an attention
become one kernel, which keeps the scores in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.workload.layers import LayerSpec, Workload

if TYPE_CHECKING:
    from hwnas.device import DeviceProfile
    from hwnas.device.execution import Execution

__all__ = ["Step", "steps_of", "steps_of_layers"]

_FLOAT: Final = "fp32"


@dataclass(frozen=True, slots=True)
class Step:
    """One run of a kernel in a network.

    Attributes:
        kernel: What runs.
        layers: Names of the layers that it computes.
        group: Their group, as in the workload.
        per_prompt: Runs once for each prompt.
    """

    kernel: Kernel
    layers: tuple[str, ...]
    group: str
    per_prompt: bool


def steps_of(workload: Workload, device: DeviceProfile) -> list[Step]:
    """List the kernels of one image and one prompt, in the order in which they run.

    Raises:
        DeviceError: a layer has no kernel, or the device cannot run its bit-widths.
    """
    return steps_of_layers(workload.layers, device)


def steps_of_layers(layers: Sequence[LayerSpec], device: DeviceProfile) -> list[Step]:
    """As `steps_of`, for the layers of one slot: no kernel spans two slots."""
    steps, at = [], 0
    while at < len(layers):
        fused = _attention(layers[at:], device)
        if fused is None:
            count, kernel = 1, _kernel(layers[at], device)
        else:
            count, kernel = fused
        first = layers[at]
        names = tuple(layer.name for layer in layers[at : at + count])
        steps.append(Step(kernel, names, first.group, first.per_prompt))
        at += count
    return steps


def _attention(rest: Sequence[LayerSpec], device: DeviceProfile) -> tuple[int, Kernel] | None:
    """Match scores, at most two products with position tables, softmax, and sum of values."""
    at = next((i for i, layer in enumerate(rest[:4]) if layer.kind != "matmul"), 0)
    if not at or rest[at].kind != "softmax" or len(rest) <= at + 1:
        return None
    scores, softmax, values = rest[0], rest[at], rest[at + 1]
    if values.kind != "matmul" or len(softmax.shape) != 5 or scores.group != values.group:
        return None
    regions, heads, queries, keys, side = softmax.shape
    dim = scores.shape[2]
    fits = (
        scores.shape == (regions * heads, queries, dim, keys)
        and values.shape == (regions * heads, queries, keys, dim)
        and at == (3 if side else 1)
        and (not side or queries == keys == side**2)
    )
    runs = device.execution(scores.w_bits, scores.a_bits)
    if not fits or device.execution(values.w_bits, values.a_bits).dtype != runs.dtype:
        return None
    if side:
        return at + 2, _with("attention", (regions, heads, side, dim), runs)
    return at + 2, _with("cross_attention", (regions * heads, queries, keys, dim), runs)


def _kernel(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    lower = _LOWER.get(layer.kind)
    if lower is None:
        raise DeviceError(
            f"layer {layer.name} is of kind {layer.kind!r}, which has no kernel; "
            f"kinds with one: {', '.join(sorted(_LOWER))}"
        )
    return lower(layer, device)


def _shape(layer: LayerSpec, sizes: int, meaning: str) -> tuple[int, ...]:
    if len(layer.shape) != sizes:
        raise DeviceError(
            f"layer {layer.name} ({layer.kind}) has shape {layer.shape}; its kernel needs {meaning}"
        )
    return layer.shape


def _with(kind: str, shape: tuple[int, ...], runs: Execution) -> Kernel:
    return Kernel(kind, shape, runs.dtype, runs.w_bits_in_memory, runs.a_bits_in_memory)


def _floats(kind: str, *shape: int) -> Kernel:
    return Kernel(kind, shape, _FLOAT, 32, 32)


def _linear(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    shape = _shape(layer, 3, "(rows, c_in, c_out)")
    return _with("linear", shape, device.execution(layer.w_bits, layer.a_bits))


def _matmul(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    shape = _shape(layer, 4, "(batch, rows, inner, columns)")
    runs = device.execution(layer.w_bits, layer.a_bits)
    return Kernel("matmul", shape, runs.dtype, runs.a_bits_in_memory, runs.a_bits_in_memory)


def _conv(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    shape = _shape(layer, 6, "(c_in, c_out, kernel, stride, groups, side)")
    c_in, _, _, stride, groups, side = shape
    if groups not in (1, c_in):
        raise DeviceError(
            f"layer {layer.name} is a convolution in {groups} groups of {c_in} channels, which "
            "has no kernel; only 1 group or a group a channel has"
        )
    kind = "dwconv" if layer.kind == "dwconv" else "conv"
    if stride > 1 and layer.in_elems == side * side * c_in:
        kind = "conv_transpose"
    return _with(kind, shape, device.execution(layer.w_bits, layer.a_bits))


def _norm(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    return _floats("norm", *_shape(layer, 2, "(rows, channels)"))


def _softmax(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    *rows, columns, _ = _shape(layer, 5, "(regions, heads, queries, keys, side or 0)")
    return _floats("softmax", rows[0] * rows[1] * rows[2], columns)


def _act(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    return _floats("relu" if layer.shape[1:] == (1,) else "gelu", layer.out_elems)


def _window(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    *sizes, back = _shape(layer, 4, "(side, window, channels, 1 on the way back)")
    return _floats("unwindow" if back else "window", *sizes)


def _embed(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    return _floats("fourier", *layer.shape) if layer.shape else _floats("copy", layer.out_elems)


def _add(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    return _floats("add", layer.out_elems)


def _quantize(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    return _floats("quantize", layer.out_elems)


def _pool(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    return _floats("pool", *_shape(layer, 3, "(side, channels, side of a pooled square)"))


def _resize(layer: LayerSpec, device: DeviceProfile) -> Kernel:
    return _floats("resize", *_shape(layer, 3, "(side, channels, side of the result)"))


_LOWER: Final[dict[str, Callable[[LayerSpec, DeviceProfile], Kernel]]] = {
    "act": _act,
    "add": _add,
    "conv": _conv,
    "dwconv": _conv,
    "embed": _embed,
    "linear": _linear,
    "matmul": _matmul,
    "norm": _norm,
    "pool": _pool,
    "quantize": _quantize,
    "resize": _resize,
    "softmax": _softmax,
    "window": _window,
}
