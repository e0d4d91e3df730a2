"""SAM's prompt encoder and mask decoder as a program of kernels, in floating point.

One prompt, a box or a point, is two tokens. The steps are those of
`hwnas.workload.sam_decoder.decoder_layers`, lowered as for a measurement; stock modules:
segment-anything `modeling/prompt_encoder.py`, `mask_decoder.py`, `transformer.py`. Differences to
the measured network, which moves no rows:

* the tokens of the prompt are put behind the five fixed ones by a product with a matrix of zeros
  and ones, and a token is taken out of the rows in the same way; both are exact;
* the masks are four products of the pixels with one head each, so that each mask is a plane.

The transformer's norms add 1e-5 to the variance in torch and 1e-6 here, as everywhere in SAM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from hwnas.errors import DeviceError
from hwnas.export.tvm.encoder import norm_constants
from hwnas.export.tvm.weights import array
from hwnas.export.tvm.writer import BoundProgram, Constants, ProgramWriter
from hwnas.measure.builder import Builder
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.family import Array
from hwnas.measure.kernels.gemm import pack
from hwnas.measure.lowering import steps_of_layers
from hwnas.supernet.prompting import dense_positions
from hwnas.workload.sam_decoder import PROMPT_TOKENS, decoder_layers

__all__ = ["DRAWN", "INPUT", "POINTS", "TOKENS", "decoder_program", "token_table"]

INPUT: Final = "embedding"
"""Input: the encoder's output (g, g, 256)."""
POINTS: Final = "points"
"""Input: two points (2, xy) as shares of the image's side, half a pixel added."""
TOKENS: Final = "tokens"
"""Input: the fixed tokens and what the two points are, `token_table` (7, 256)."""
DRAWN: Final = "drawn"
"""Input: the drawn box (4 g, 4 g), only where the model wants one."""

_MASKS: Final = 4
_FIXED: Final = 1 + _MASKS
_ROWS: Final = _FIXED + PROMPT_TOKENS
_DIM: Final = 256
_FLOAT_BITS: Final = 16


def decoder_program(
    sam: Any, grid: int, builder: Builder, *, box: bool, bits: int = _FLOAT_BITS
) -> BoundProgram:
    """Write the decoder for a box, or for a single point.

    Outputs are four planes of logits (4 g, 4 g), mask token 0 first, then the predicted IoU (4,).

    Args:
        sam: The model whose prompt encoder and mask decoder are used.
        grid: Cells along one side of the embedding.
        builder: Builds the kernels.
        box: Whether the prompt is a box; a model that has its boxes drawn takes them so.
        bits: Of weights as measured; 16 runs as whatever the device has for it.

    Raises:
        DeviceError: the decoder has other masks than SAM's four, or the bits have no float kernel.
    """
    if sam.mask_decoder.num_mask_tokens != _MASKS or bits < _FLOAT_BITS:
        raise DeviceError(
            f"a decoder with {sam.mask_decoder.num_mask_tokens} mask tokens at {bits} bits: the "
            f"module has SAM's {_MASKS} in floating point; export the encoder alone"
        )
    drawn = box and sam.geometry.drawn_boxes
    layers = decoder_layers(grid, bits=bits, drawn_boxes=drawn)
    writer = ProgramWriter(builder, steps_of_layers(layers, builder.device))
    features = _features(writer, sam)
    dense = _drawn(writer, sam, grid) if drawn else _no_mask(writer, sam, grid)
    decoder = _Decoder(writer, sam, grid)
    decoder.place(features, PROMPT_TOKENS if box else 1)
    return decoder.write(dense)


def token_table(sam: Any, kind: str) -> Array:
    """What is added to the placed features of a `box`, `foreground` or `background` point.

    (7, 256): the fixed tokens, then the embedding of each prompt token. A point is followed by the
    padding point of the stock encoder, which has no position.
    """
    prompts, decoder = sam.prompt_encoder, sam.mask_decoder
    kinds = [array(e.weight)[0] for e in prompts.point_embeddings]
    padding = array(prompts.not_a_point_embed.weight)[0]
    background, foreground, first, second = kinds
    pairs = {
        "box": (first, second),
        "foreground": (foreground, padding),
        "background": (background, padding),
    }
    fixed = (array(decoder.iou_token.weight), array(decoder.mask_tokens.weight))
    return np.concatenate([*fixed, np.stack(pairs[kind])]).astype(np.float32)


def _features(writer: ProgramWriter, sam: Any) -> str:
    points = writer.input(POINTS, 2 * PROMPT_TOKENS)
    frequencies = sam.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix
    return writer.run("prompt_encoder.embed", (points,), lambda *_: (array(frequencies).ravel(),))


def _no_mask(writer: ProgramWriter, sam: Any, grid: int) -> str:
    row = array(sam.prompt_encoder.no_mask_embed.weight)
    return writer.table("no_mask", np.broadcast_to(row, (grid * grid, _DIM)))


def _drawn(writer: ProgramWriter, sam: Any, grid: int) -> str:
    """The mask prompt brought down to the embedding's grid and channels."""
    x = writer.input(DRAWN, 16 * grid * grid)
    for index, module in enumerate(sam.prompt_encoder.mask_downscaling):
        name = f"prompt_encoder.mask_downscaling.{index}"
        constants: Constants | None = None
        if index in (0, 3, 6):
            flat = module.weight.permute(0, 2, 3, 1).flatten(1)
            constants = _matrix(array(flat).T, array(module.bias))
        elif index in (1, 4):
            constants = norm_constants(module)
        x = writer.run(name, (x,), constants)
    return x


def _matrix(weight: Array, bias: Array) -> Constants:
    return lambda kernel, isa: pack(kernel, isa, weight, bias)


def _one_hot(rows: int, places: list[int]) -> Array:
    """A matrix (rows, len(places)) with a one in each column."""
    return np.asarray(np.arange(rows)[:, None] == np.array(places), np.float32)


@dataclass
class _Decoder:
    """Names of the buffers that stay alive across the transformer."""

    writer: ProgramWriter
    sam: Any
    grid: int
    tokens: str = ""
    positions: str = ""

    def place(self, features: str, count: int) -> None:
        """Make the tokens (7, 256): `count` rows of features behind the fixed ones, and a table."""
        w, name = self.writer, "mask_decoder.tokens"
        places = _one_hot(_ROWS, [_FIXED + i if i < count else -1 for i in range(PROMPT_TOKENS)])
        measured = w.step(name)
        placing = Kernel("matmul", (1, _ROWS, PROMPT_TOKENS, _DIM), "fp32", 32, 32)
        y = w.call(f"{name}.placed", placing, (w.table(f"{name}.places", places), features))
        adding = Kernel("add", (_ROWS * _DIM,), "fp32", 32, 32)
        table = w.input(TOKENS, _ROWS * _DIM)
        self.tokens = w.call(name, adding, (y, table), measured=measured)

    def write(self, dense: str) -> BoundProgram:
        """Write all that follows the prompt."""
        w, transformer = self.writer, self.sam.mask_decoder.transformer
        maps = array(dense_positions(self.sam, self.grid)[0].flatten(1).T)
        self.positions = w.table("positions", maps)
        keys = w.run("mask_decoder.add_dense_prompt", (w.input(INPUT, maps.size), dense))
        queries = self.tokens
        for index, layer in enumerate(transformer.layers):
            queries, keys = self.layer(f"transformer.layers.{index}", layer, queries, keys)
        name = "transformer.final_attn_token_to_image"
        read = self.cross(name, transformer.final_attn_token_to_image, queries, keys)
        queries = self.joined(name, read, queries)
        queries = self.norm("transformer.norm_final_attn", transformer.norm_final_attn, queries)
        pixels = self.upscaled(keys)
        masks = self.masks(pixels, queries)
        head = self.sam.mask_decoder.iou_prediction_head
        iou = self.mlp("iou_prediction_head", head, self.row("iou_prediction_head", queries, 0))
        return w.finish((*masks, iou))

    def layer(self, name: str, layer: Any, queries: str, keys: str) -> tuple[str, str]:
        own, first = f"{name}.self_attn", layer.skip_first_layer_pe
        placed = queries if first else self.plus(f"{own}.add_pe", queries, self.tokens)
        read = self.attention(own, layer.self_attn, placed, placed, queries)
        queries = read if first else self.joined(own, read, queries)
        queries = self.norm(f"{name}.norm1", layer.norm1, queries)
        to_image = f"{name}.cross_attn_token_to_image"
        read = self.cross(to_image, layer.cross_attn_token_to_image, queries, keys)
        queries = self.norm(f"{name}.norm2", layer.norm2, self.joined(to_image, read, queries))
        y = self.linear(f"{name}.mlp.lin1", layer.mlp.lin1, queries)
        y = self.writer.run(f"mask_decoder.{name}.mlp.act", (y,))
        y = self.linear(f"{name}.mlp.lin2", layer.mlp.lin2, y)
        queries = self.norm(f"{name}.norm3", layer.norm3, self.joined(f"{name}.mlp", y, queries))
        to_token = f"{name}.cross_attn_image_to_token"
        attention = layer.cross_attn_image_to_token
        read = self.cross(to_token, attention, queries, keys, to_image=False)
        return queries, self.norm(f"{name}.norm4", layer.norm4, self.joined(to_token, read, keys))

    def cross(
        self, name: str, attention: Any, queries: str, keys: str, *, to_image: bool = True
    ) -> str:
        token = self.plus(f"{name}.add_token_pe", queries, self.tokens)
        pixel = self.plus(f"{name}.add_image_pe", keys, self.positions)
        if to_image:
            return self.attention(name, attention, token, pixel, keys)
        return self.attention(name, attention, pixel, token, queries)

    def attention(self, name: str, attention: Any, q: str, k: str, v: str) -> str:
        projected = [
            self.linear(f"{name}.{part}_proj", getattr(attention, f"{part}_proj"), x)
            for part, x in (("q", q), ("k", k), ("v", v))
        ]
        y = self.writer.run(f"mask_decoder.{name}.qk", projected)
        return self.linear(f"{name}.out_proj", attention.out_proj, y)

    def joined(self, name: str, y: str, x: str) -> str:
        return self.plus(f"{name}.add", x, y)

    def plus(self, name: str, a: str, b: str) -> str:
        return self.writer.run(f"mask_decoder.{name}", (a, b))

    def norm(self, name: str, norm: Any, x: str) -> str:
        return self.writer.run(f"mask_decoder.{name}", (x,), norm_constants(norm))

    def linear(self, name: str, layer: Any, x: str) -> str:
        constants = _matrix(array(layer.weight).T, array(layer.bias))
        return self.writer.run(f"mask_decoder.{name}", (x,), constants)

    def upscaled(self, x: str) -> str:
        """Pixels (16 g g, 32) of the four times larger map."""
        for index, module in enumerate(self.sam.mask_decoder.output_upscaling):
            constants: Constants | None = None
            if index in (0, 3):
                flat = module.weight.permute(0, 2, 3, 1).flatten(1)  # (in, square x out)
                constants = _matrix(array(flat), np.tile(array(module.bias), 4))
            elif index == 1:
                constants = norm_constants(module)
            x = self.writer.run(f"mask_decoder.output_upscaling.{index}", (x,), constants)
        return x

    def row(self, name: str, queries: str, index: int) -> str:
        """Take one token out of the rows."""
        w, name = self.writer, f"mask_decoder.{name}.token"
        kernel = Kernel("matmul", (1, 1, _ROWS, _DIM), "fp32", 32, 32)
        chosen = w.table(f"{name}.place", _one_hot(_ROWS, [index]))
        return w.call(name, kernel, (chosen, queries))

    def mlp(self, name: str, mlp: Any, x: str) -> str:
        for index, layer in enumerate(mlp.layers):
            x = self.linear(f"{name}.layers.{index}", layer, x)
            if index < len(mlp.layers) - 1:
                x = self.writer.run(f"mask_decoder.{name}.act.{index}", (x,))
        return x

    def masks(self, pixels: str, queries: str) -> list[str]:
        """One plane for each mask token."""
        mlps = self.sam.mask_decoder.output_hypernetworks_mlps
        heads = []
        for index, mlp in enumerate(mlps):
            name = f"output_hypernetworks_mlps.{index}"
            heads.append(self.mlp(name, mlp, self.row(name, queries, 1 + index)))
        name = "mask_decoder.masks"
        measured = self.writer.step(name)
        kernel = Kernel("matmul", (1, 16 * self.grid**2, _DIM // 8, 1), "fp32", 32, 32)
        return [
            self.writer.call(f"{name}.{i}", kernel, (pixels, head), measured=measured)
            for i, head in enumerate(heads)
        ]
