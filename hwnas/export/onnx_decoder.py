"""Prompt encoder and mask decoder as one ONNX graph, in floating point.

Inputs are the embedding of one image (1, 256, g, g), points (P, n, 2) and labels (P, n); outputs
are mask logits (P, 4g, 4g) of mask 0 and the predicted IoU (P,). One graph and not two, because
what a drawn box adds is as large as the image's embedding for each prompt.

The arithmetic is that of `hwnas.supernet.prompt_decoder`: the projections of the image's tokens are
moved to the few tokens of a prompt, which halves the multiplications of the stock decoder.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from hwnas.errors import ConfigError
from hwnas.export.onnx_graph import OnnxGraph
from hwnas.export.onnx_prompts import drawn_boxes, prompt_tokens
from hwnas.supernet.prompting import dense_positions

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["decoder_model"]

Array = NDArray[Any]


def decoder_model(sam: Any, resolution: int, *, notes: dict[str, str] | None = None) -> ModelProto:
    """The graph for embeddings of images of `resolution` pixels.

    Raises:
        ConfigError: a model with a semantic head, which takes no prompts.
    """
    if getattr(sam, "classes", None) is not None:
        raise ConfigError(
            f"this model segments the classes {', '.join(sam.classes)} without prompts; its "
            "decoder cannot be exported: expected a model that takes boxes and points"
        )
    graph = OnnxGraph("mask_decoder")
    _DecoderWriter(graph, sam, sam.geometry.grid(resolution)).add(resolution)
    return graph.model(notes)


class _DecoderWriter:
    def __init__(self, graph: OnnxGraph, sam: Any, grid: int) -> None:
        self.g, self.sam, self.decoder, self.grid = graph, sam, sam.mask_decoder, grid
        self.pixels = grid**2
        self.width: int = sam.mask_decoder.transformer_dim
        positions = dense_positions(sam, grid).flatten(2).transpose(1, 2)  # (1, N, 256)
        self.positions = graph.constant("image/positions", _array(positions))

    def add(self, resolution: int) -> None:
        g, grid = self.g, self.grid
        embedding = g.input("embedding", "float32", (1, self.width, grid, grid))
        points = g.input("points", "float32", ("prompts", "points_of_prompt", 2))
        labels = g.input("labels", "int64", ("prompts", "points_of_prompt"))
        sparse = prompt_tokens(g, self.sam, points, labels, resolution)
        tokens = self._tokens(sparse, labels)
        queries, keys, placed = tokens, self._image(embedding, points, labels), ""
        for index, layer in enumerate(self.decoder.transformer.layers):
            name = f"layers/{index}"
            queries = self._norm(self._self(layer, queries, tokens, name), layer.norm1, name)
            placed = g.node("Add", [keys, self.positions], f"{name}/placed")
            queries = self._read_and_think(layer, queries, tokens, placed, keys, name)
            written = self._write(
                layer.cross_attn_image_to_token, placed,
                g.node("Add", [queries, tokens], f"{name}/asking"), queries, keys, f"{name}/write",
            )  # fmt: skip
            keys = self._norm(written, layer.norm4, f"{name}/image")
        self._outputs(queries, tokens, keys)

    def _tokens(self, sparse: str, labels: str) -> str:
        """Output tokens, then those of the prompt: (P, T, 256)."""
        g, decoder = self.g, self.decoder
        fixed = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        prompts = g.node("Shape", [labels], "prompts", start=0, end=1)
        rest = g.constant("tokens/rest", np.array(fixed.shape, np.int64))
        shape = g.node("Concat", [prompts, rest], "tokens/shape", axis=0)
        outputs = g.constant("tokens/outputs", _array(fixed)[None])
        outputs = g.node("Expand", [outputs, shape], "tokens/expanded")
        return g.node("Concat", [outputs, sparse], "tokens", axis=1)

    def _image(self, embedding: str, points: str, labels: str) -> str:
        """Image tokens plus what the prompt draws: (P or 1, N, 256)."""
        g = self.g
        x = g.reshape(embedding, (1, self.width, self.pixels), "image/flat")
        x = g.transpose(x, (0, 2, 1), "image/tokens")
        if self.sam.geometry.drawn_boxes:
            dense = drawn_boxes(g, self.sam, points, labels, self.grid)
        else:
            none = self.sam.prompt_encoder.no_mask_embed.weight
            dense = g.constant("image/none", _array(none)[None])
        return g.node("Add", [x, dense], "image")

    def _self(self, layer: Any, queries: str, tokens: str, name: str) -> str:
        g, attention = self.g, layer.self_attn
        placed = queries
        if not layer.skip_first_layer_pe:
            placed = g.node("Add", [queries, tokens], f"{name}/self/placed")
        name = f"{name}/self"
        q, k, v = (
            self._heads(self._linear(x, getattr(attention, f"{p}_proj"), f"{name}/{p}"),
                        attention.num_heads, f"{name}/{p}")
            for p, x in (("q", placed), ("k", placed), ("v", queries))
        )  # fmt: skip
        scores = g.node("MatMul", [q, g.transpose(k, (0, 1, 3, 2), f"{name}/turned")], f"{name}/qk")
        scale = 1 / math.sqrt(attention.internal_dim // attention.num_heads)
        scores = g.node("Mul", [scores, g.constant(f"{name}/scale", scale)], f"{name}/scores")
        share = g.node("Softmax", [scores], f"{name}/share", axis=-1)
        read = self._joined(g.node("MatMul", [share, v], f"{name}/mixed"), name)
        read = self._linear(read, attention.out_proj, f"{name}/out")
        return read if layer.skip_first_layer_pe else g.node("Add", [queries, read], name)

    def _read_and_think(
        self, layer: Any, queries: str, tokens: str, placed: str, keys: str, name: str
    ) -> str:
        g = self.g
        asking = g.node("Add", [queries, tokens], f"{name}/read/queries")
        read = self._read(layer.cross_attn_token_to_image, asking, placed, keys, f"{name}/read")
        x = self._norm(g.node("Add", [queries, read], f"{name}/seen"), layer.norm2, f"{name}/n2")
        hidden = g.node("Relu", [self._linear(x, layer.mlp.lin1, f"{name}/lin1")], f"{name}/relu")
        thought = self._linear(hidden, layer.mlp.lin2, f"{name}/lin2")
        return self._norm(g.node("Add", [x, thought], f"{name}/sum"), layer.norm3, f"{name}/n3")

    def _read(self, attention: Any, queries: str, placed: str, keys: str, name: str) -> str:
        """Attention of tokens (P, T, 256) to pixels (P or 1, N, 256)."""
        g, heads = self.g, attention.num_heads
        inner = attention.internal_dim // heads
        scale = 1 / math.sqrt(inner)
        # The bias of the keys adds the same to all scores of a token: the softmax does not see it.
        q = self._heads(self._linear(queries, attention.q_proj, f"{name}/q"), heads, f"{name}/q")
        k = attention.k_proj.weight.unflatten(0, (heads, inner)) * scale  # (heads, c, 256)
        seek = g.node("MatMul", [q, g.weight(f"{name}/k", _array(k))], f"{name}/seek")
        seek = g.reshape(seek, (0, -1, self.width), f"{name}/seek/flat")  # (P, heads·T, 256)
        turned = g.transpose(placed, (0, 2, 1), f"{name}/pixels")
        share = g.node("MatMul", [seek, turned], f"{name}/scores")
        share = g.node("Softmax", [share], f"{name}/share", axis=-1)
        seen = g.node("MatMul", [share, keys], f"{name}/seen")
        seen = g.reshape(seen, (0, heads, -1, self.width), f"{name}/seen/heads")
        v = attention.v_proj.weight.unflatten(0, (heads, inner)).transpose(1, 2)
        read = g.node("MatMul", [seen, g.weight(f"{name}/v", _array(v))], f"{name}/values")
        read = self._joined(read, name)
        bias = g.constant(f"{name}/v/bias", _array(attention.v_proj.bias))
        read = g.node("Add", [read, bias], f"{name}/biased")
        return self._linear(read, attention.out_proj, f"{name}/out")

    def _write(
        self, attention: Any, placed: str, queries: str, values: str, keys: str, name: str
    ) -> str:
        """Pixels (P or 1, N, 256) plus their attention to tokens (P, T, 256): (P, N, 256)."""
        g, heads = self.g, attention.num_heads
        inner = attention.internal_dim // heads
        k = self._linear(queries, attention.k_proj, f"{name}/k", scale=1 / math.sqrt(inner))
        k = self._heads(k, heads, f"{name}/k")  # (P, heads, T, c)
        q = attention.q_proj
        weight, bias = q.weight.unflatten(0, (heads, inner)), q.bias.unflatten(0, (heads, inner, 1))
        seek = g.node("MatMul", [k, g.weight(f"{name}/q", _array(weight))], f"{name}/seek")
        start = g.node("MatMul", [k, g.constant(f"{name}/q/bias", _array(bias))], f"{name}/start")
        seek = g.reshape(seek, (0, -1, self.width), f"{name}/seek/flat")
        pixels = g.transpose(placed, (0, 2, 1), f"{name}/pixels")
        scores = g.node("MatMul", [seek, pixels], f"{name}/product")  # (P, heads·T, N)
        scores = g.reshape(scores, (0, heads, -1, self.pixels), f"{name}/split")
        scores = g.node("Add", [scores, start], f"{name}/scores")
        share = g.node("Softmax", [scores], f"{name}/share", axis=2)  # over tokens
        share = g.reshape(share, (0, -1, self.pixels), f"{name}/share/flat")
        v = self._heads(self._linear(values, attention.v_proj, f"{name}/v"), heads, f"{name}/v")
        out = attention.out_proj.weight.unflatten(1, (heads, inner)).permute(1, 2, 0)
        written = g.node("MatMul", [v, g.weight(f"{name}/o", _array(out))], f"{name}/values")
        written = g.reshape(written, (0, -1, self.width), f"{name}/values/flat")
        turned = g.transpose(share, (0, 2, 1), f"{name}/share/turned")
        added = g.node("MatMul", [turned, written], f"{name}/added")
        bias = g.constant(f"{name}/out/bias", _array(attention.out_proj.bias)[None, None])
        kept = g.node("Add", [keys, bias], f"{name}/kept")
        return g.node("Add", [kept, added], name)

    def _outputs(self, queries: str, tokens: str, keys: str) -> None:
        """Mask 0 and its predicted IoU: only these two tokens read the image a last time."""
        g, transformer = self.g, self.decoder.transformer
        query = g.slice(queries, (0,), (2,), (1,), "final/queries")
        token = g.slice(tokens, (0,), (2,), (1,), "final/tokens")
        placed = g.node("Add", [keys, self.positions], "final/placed")
        asking = g.node("Add", [query, token], "final/asking")
        read = self._read(transformer.final_attn_token_to_image, asking, placed, keys, "final/read")
        read = g.node("Add", [query, read], "final/sum")
        hidden = self._norm(read, transformer.norm_final_attn, "final")
        iou = g.slice(hidden, (0,), (1,), (1,), "iou/token")
        iou = self._mlp(iou, self.decoder.iou_prediction_head, "iou")
        iou = g.reshape(g.slice(iou, (0,), (1,), (2,), "iou/first"), (-1,), "iou")
        head = g.slice(hidden, (1,), (2,), (1,), "mask/token")  # (P, 1, 256)
        head = self._mlp(head, self.decoder.output_hypernetworks_mlps[0], "mask/head")
        side = 4 * self.grid
        g.output(self._masks(keys, head), "float32", ("prompts", side, side))
        g.output(iou, "float32", ("prompts",))

    def _masks(self, keys: str, head: str) -> str:
        """Upscale pixels and multiply by the head (P, 1, 32): (P, 4g, 4g)."""
        g, grid = self.g, self.grid
        first, norm, _, second, _ = self.decoder.output_upscaling
        x = self._up(first, keys, "mask/up1")
        x = g.reshape(x, (0, 4 * self.pixels, -1), "mask/cells")
        x = g.node("Gelu", [self._norm(x, norm, "mask")], "mask/gelu1", approximate="none")
        x = g.node("Gelu", [self._up(second, x, "mask/up2")], "mask/gelu2", approximate="none")
        x = g.reshape(x, (0, 16 * self.pixels, second.out_channels), "mask/channels")
        x = g.node("MatMul", [x, g.transpose(head, (0, 2, 1), "mask/column")], "mask/logits")
        x = g.reshape(x, (-1, grid, grid, 2, 2, 2, 2), "mask/parts")  # P, y, x, y/2, x/2, y/4, x/4
        x = g.transpose(x, (0, 1, 3, 5, 2, 4, 6), "mask/turned")
        return g.reshape(x, (-1, 4 * grid, 4 * grid), "masks")

    def _up(self, layer: Any, x: str, name: str) -> str:
        """A 2 x 2, stride-2 transposed convolution of pixels (P, n, in) as (P, n, 4 · out)."""
        kernel = layer.weight.permute(2, 3, 1, 0).flatten(0, 2)
        return self._affine(x, kernel, layer.bias.repeat(4), name)

    def _mlp(self, x: str, mlp: Any, name: str) -> str:
        for index, layer in enumerate(mlp.layers):
            x = self._linear(x, layer, f"{name}/{index}")
            if index < len(mlp.layers) - 1:
                x = self.g.node("Relu", [x], f"{name}/{index}/relu")
        return x

    def _norm(self, x: str, norm: Any, name: str) -> str:
        ends = [self.g.constant(f"{name}/norm/{w}", _array(getattr(norm, w)))
                for w in ("weight", "bias")]  # fmt: skip
        return self.g.node("LayerNormalization", [x, *ends], f"{name}/norm", epsilon=norm.eps)

    def _linear(self, x: str, layer: Any, name: str, *, scale: float = 1.0) -> str:
        return self._affine(x, layer.weight * scale, layer.bias * scale, name)

    def _affine(self, x: str, weight: torch.Tensor, bias: torch.Tensor, name: str) -> str:
        g = self.g
        y = g.node("MatMul", [x, g.weight(f"{name}/weight", _array(weight.t()))], f"{name}/mm")
        return g.node("Add", [y, g.constant(f"{name}/bias", _array(bias))], name)

    def _heads(self, x: str, heads: int, name: str) -> str:
        """(P, T, heads · c) to (P, heads, T, c)."""
        x = self.g.reshape(x, (0, 0, heads, -1), f"{name}/heads")
        return self.g.transpose(x, (0, 2, 1, 3), f"{name}/heads/turned")

    def _joined(self, x: str, name: str) -> str:
        """(P, heads, T, c) to (P, T, heads · c)."""
        x = self.g.transpose(x, (0, 2, 1, 3), f"{name}/joined/turned")
        return self.g.reshape(x, (0, 0, -1), f"{name}/joined")


def _array(tensor: torch.Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
