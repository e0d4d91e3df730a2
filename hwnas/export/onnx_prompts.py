"""The prompt encoder as a part of an exported graph: points and boxes to tokens and to a map.

A prompt is n points in pixels of the padded input, with labels as in segment_anything's own ONNX
export: 0 background, 1 foreground, 2 and 3 the first and last corner of a box, -1 padding. A box
comes first; a prompt without one ends with a padding point. Arithmetic: `hwnas.supernet.prompting`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.export.onnx_graph import OnnxGraph

__all__ = ["drawn_boxes", "prompt_tokens"]

_CELLS = 4  # of a drawn box along one of the embedding's
_FIRST_CORNER = 2
Array = NDArray[Any]


def prompt_tokens(graph: OnnxGraph, sam: Any, points: str, labels: str, resolution: int) -> str:
    """Tokens (P, n, 256) of points (P, n, 2) with labels (P, n)."""
    encoder, g = sam.prompt_encoder, graph
    matrix = _array(encoder.pe_layer.positional_encoding_gaussian_matrix)  # (2, 128)
    # 2 (xy + 0.5) / R - 1, times 2 pi, as one product and one sum
    slope, start = 4 * math.pi / resolution, (1 / resolution - 1) * 2 * math.pi
    angles = g.node("MatMul", [points, g.constant("prompt/matrix", matrix * np.float32(slope))],
                    "prompt/product")  # fmt: skip
    first = g.constant("prompt/start", (matrix.sum(axis=0) * np.float32(start))[None, None])
    angles = g.node("Add", [angles, first], "prompt/angles")
    waves = [g.node(kind, [angles], f"prompt/{kind}") for kind in ("Sin", "Cos")]
    features = g.node("Concat", waves, "prompt/features", axis=-1)
    kinds = [encoder.not_a_point_embed, *(encoder.point_embeddings[i] for i in range(4))]
    table = g.constant("prompt/kinds", np.concatenate([_array(kind.weight) for kind in kinds]))
    one = g.constant("prompt/one", np.array(1, np.int64))
    row = g.node("Add", [labels, one], "prompt/row")
    kind = g.node("Gather", [table, row], "prompt/kind", axis=0)
    real = g.node(
        "GreaterOrEqual", [labels, g.constant("prompt/zero", np.array(0, np.int64))], "prompt/real"
    )
    last = g.constant("prompt/last", np.array([-1], np.int64))
    real = g.node("Unsqueeze", [real, last], "prompt/real/column")
    nothing = g.constant("prompt/nothing", 0.0)
    placed = g.node("Where", [real, features, nothing], "prompt/placed")
    return g.node("Add", [placed, kind], "prompt/tokens")


def drawn_boxes(graph: OnnxGraph, sam: Any, points: str, labels: str, grid: int) -> str:
    """What boxes add to the image tokens: (P, N, 256), N = grid², or the absent mask's vector."""
    g, encoder = graph, sam.prompt_encoder
    none = g.constant("box/none", _array(encoder.no_mask_embed.weight)[None])  # (1, 1, 256)
    maps = _maps(g, points, grid, sam.geometry.patch / _CELLS)
    drawn = _downscaled(g, encoder.mask_downscaling, maps, grid)
    kind = g.slice(labels, (0,), (1,), (1,), "box/label")  # (P, 1)
    corner = g.constant("box/corner", np.array(_FIRST_CORNER, np.int64))
    given = g.node("Equal", [kind, corner], "box/given")
    last = g.constant("box/last", np.array([-1], np.int64))
    given = g.node("Unsqueeze", [given, last], "box/given/column")  # (P, 1, 1)
    return g.node("Where", [given, drawn, none], "box/dense")


def _maps(g: OnnxGraph, points: str, grid: int, cell: float) -> str:
    """How much of each cell the first two points cover as a box: (P, 4g, 4g), from -1 to 1."""
    side = _CELLS * grid
    edges = (np.arange(side, dtype=np.float32) * np.float32(cell))[None, None]
    low, high = g.constant("box/low", edges), g.constant("box/high", edges + np.float32(cell))
    first, last = (
        g.node(
            "Transpose",
            [g.slice(points, (i,), (i + 1,), (1,), f"box/point{i}")],
            f"box/corner{i}", perm=[0, 2, 1],
        )  # (P, 2, 1)
        for i in range(2)
    )  # fmt: skip
    last = g.node("Add", [last, g.constant("box/pixel", 1.0)], "box/end")
    inside = [g.node("Min", [last, high], "box/until"), g.node("Max", [first, low], "box/from")]
    share = g.node("Sub", inside, "box/length")  # (P, 2, 4g)
    share = g.node("Max", [share, g.constant("box/zero", 0.0)], "box/covered")
    share = g.node("Div", [share, g.constant("box/cell", cell)], "box/share")
    across = g.slice(share, (0,), (1,), (1,), "box/across")  # (P, 1, 4g)
    down = g.slice(share, (1,), (2,), (1,), "box/down/row")
    down = g.transpose(down, (0, 2, 1), "box/down")  # (P, 4g, 1)
    cover = g.node("Mul", [down, across], "box/cover")
    cover = g.node("Mul", [cover, g.constant("box/two", 2.0)], "box/twice")
    return g.node("Sub", [cover, g.constant("box/one", 1.0)], "box/map")


def _downscaled(g: OnnxGraph, layers: Any, maps: str, grid: int) -> str:
    """Two 2 x 2 convolutions of stride 2 with norms, and one 1 x 1, channels last: (P, N, 256)."""
    conv1, norm1, _, conv2, norm2, _, conv3 = layers
    x = g.reshape(maps, (-1, grid, 2, 2, grid, 2, 2), "box/cells")
    x = g.transpose(x, (0, 1, 4, 2, 5, 3, 6), "box/patches")  # P, y, x, y/2, x/2, y/4, x/4
    x = g.reshape(x, (-1, grid**2, 4, 4), "box/quarters")
    x = _linear(g, x, conv1.weight.flatten(1), conv1.bias, "box/conv1")  # (P, N, 4, 4)
    x = _normed(g, x, norm1, "box/norm1")
    x = g.reshape(x, (-1, grid**2, 4 * len(conv1.bias)), "box/halves")
    kernel = conv2.weight.permute(0, 2, 3, 1).flatten(1)  # inputs: row, column, channel
    x = _normed(g, _linear(g, x, kernel, conv2.bias, "box/conv2"), norm2, "box/norm2")
    return _linear(g, x, conv3.weight.flatten(1), conv3.bias, "box/conv3")


def _normed(g: OnnxGraph, x: str, norm: Any, name: str) -> str:
    ends = [g.constant(f"{name}/{w}", _array(getattr(norm, w))) for w in ("weight", "bias")]
    x = g.node("LayerNormalization", [x, *ends], name, axis=-1, epsilon=norm.eps)
    return g.node("Gelu", [x], f"{name}/gelu", approximate="none")


def _linear(g: OnnxGraph, x: str, weight: torch.Tensor, bias: torch.Tensor, name: str) -> str:
    x = g.node("MatMul", [x, g.constant(f"{name}/weight", _array(weight.t()))], f"{name}/product")
    return g.node("Add", [x, g.constant(f"{name}/bias", _array(bias))], name)


def _array(tensor: torch.Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
