"""The layers of SAM's prompt encoder and mask decoder, in their stock shapes.

Source: segment-anything `modeling/prompt_encoder.py`, `mask_decoder.py`, `transformer.py`. Every
layer runs once for each prompt, as in the package, which repeats the image embedding.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

from hwnas.workload import ops
from hwnas.workload.layers import FLOAT_BITS, LayerSpec
from hwnas.workload.ops import Bits

__all__ = [
    "PROMPT_TOKENS", "decoder_layers", "mask_decoder_layers", "mask_prompt_layers",
    "prompt_encoder_layers",
]  # fmt: skip

Layers = tuple[LayerSpec, ...]

PROMPT_TOKENS = 2
"""Tokens of a box (two corners), and of one point (the package appends a padding point)."""

_DIM = 256
_CROSS = 128  # internal width of attention between tokens and image
_HEADS = 8
_MLP = 2048
_DEPTH = 2
_MASKS = 4
_OUTPUT_TOKENS = 1 + _MASKS  # one for the predicted IoU
_FREQUENCIES = _DIM // 2
_REST: dict[str, Any] = {"group": "mask_decoder", "per_prompt": True}
_EMBEDDINGS = 6  # two point labels, two corners, padding point, absent mask
_MASK_CHANNELS = (1, 4, 16)  # of a mask prompt, from 4 x 4 cells a token to one


def prompt_encoder_layers(*, tokens: int = PROMPT_TOKENS, bits: int = 16) -> Layers:
    """Fourier features and label embeddings of one prompt; the image map's own are a constant.

    The products with the frequency matrix (tokens x 2 x 128) are an embedding, so they are
    counted as element operations and not as MACs. The absent mask is one vector, added to the
    image in the decoder.
    """
    elems = tokens * _DIM
    features = LayerSpec(
        "prompt_encoder.embed",
        "embed",
        0,
        _EMBEDDINGS * _DIM + 2 * _FREQUENCIES,
        tokens * 2,
        elems,
        element_ops=tokens * 2 * _FREQUENCIES + elems,
        group="prompt_encoder",
        per_prompt=True,
        shape=(tokens, _FREQUENCIES),
        **Bits(FLOAT_BITS, FLOAT_BITS, bits).spec(),
    )
    return (features,)


def mask_prompt_layers(grid: int, *, bits: int = 16) -> Layers:
    """A mask prompt of (4 x grid) squared, brought down to the embedding's grid and channels."""
    rest: dict[str, Any] = {"group": "prompt_encoder", "per_prompt": True}
    wide = max(bits, 16)
    layers: list[LayerSpec] = []
    for step, (c_in, c_out) in enumerate(itertools.pairwise(_MASK_CHANNELS)):
        side = grid * (2, 1)[step]
        name = f"prompt_encoder.mask_downscaling.{3 * step}"
        layers += [
            ops.conv(name, (c_in, c_out), 2, side, Bits(bits, bits, wide), stride=2, **rest),
            ops.norm(
                f"prompt_encoder.mask_downscaling.{3 * step + 1}", side * side, c_out,
                a_bits=wide, out_bits=wide, **rest,
            ),
            ops.elementwise(
                f"prompt_encoder.mask_downscaling.{3 * step + 2}", "act", side * side * c_out,
                side * side * c_out, a_bits=wide, out_bits=bits, **rest,
            ),
        ]  # fmt: skip
    last = ops.conv(
        "prompt_encoder.mask_downscaling.6", (_MASK_CHANNELS[-1], _DIM), 1, grid,
        Bits(bits, bits, bits), **rest,
    )  # fmt: skip
    return (*layers, last)


def decoder_layers(
    grid: int, *, bits: int = 16, tokens: int = PROMPT_TOKENS, drawn_boxes: bool = False
) -> Layers:
    """All that one prompt costs: `drawn_boxes` says whether it comes as a mask, too."""
    return (
        *prompt_encoder_layers(bits=bits, tokens=tokens),
        *(mask_prompt_layers(grid, bits=bits) if drawn_boxes else ()),
        *mask_decoder_layers(grid, bits=bits, tokens=tokens),
    )


@dataclass(frozen=True, slots=True)
class _Decoder:
    """Builders that share the bits of the decoder and the size of the image map."""

    bits: int
    float_bits: int
    tokens: int
    grid: int

    @property
    def image(self) -> int:
        return self.grid * self.grid

    @property
    def both(self) -> Bits:
        return Bits(self.bits, self.bits, self.bits)

    @property
    def to_float(self) -> Bits:
        return Bits(self.bits, self.bits, self.float_bits)

    def linear(self, name: str, rows: int, c_in: int, c_out: int) -> LayerSpec:
        return ops.linear(f"mask_decoder.{name}", rows, c_in, c_out, self.both, **_REST)

    def matmul(self, name: str, batch: int, rows: int, inner: int, cols: int) -> LayerSpec:
        return ops.matmul(f"mask_decoder.{name}", batch, rows, inner, cols, self.to_float, **_REST)

    def elementwise(
        self, name: str, kind: str, elems: int, second: int = 0, shape: tuple[int, ...] = ()
    ) -> LayerSpec:
        return ops.elementwise(
            f"mask_decoder.{name}",
            kind,
            elems,
            elems,
            extra_in_elems=second,
            a_bits=self.float_bits,
            out_bits=self.bits,
            shape=shape,
            **_REST,
        )

    def relu(self, name: str, elems: int) -> LayerSpec:
        return self.elementwise(name, "act", elems, shape=(elems, 1))

    def norm(self, name: str, rows: int, channels: int = _DIM) -> LayerSpec:
        return ops.norm(
            f"mask_decoder.{name}",
            rows,
            channels,
            a_bits=self.float_bits,
            out_bits=self.bits,
            **_REST,
        )

    def attention(self, name: str, queries: int, keys: int, inner: int) -> Layers:
        head = inner // _HEADS
        return (
            self.linear(f"{name}.q_proj", queries, _DIM, inner),
            self.linear(f"{name}.k_proj", keys, _DIM, inner),
            self.linear(f"{name}.v_proj", keys, _DIM, inner),
            self.matmul(f"{name}.qk", _HEADS, queries, head, keys),
            self.elementwise(
                f"{name}.softmax",
                "softmax",
                _HEADS * queries * keys,
                shape=(1, _HEADS, queries, keys, 0),
            ),
            self.matmul(f"{name}.av", _HEADS, queries, keys, head),
            self.linear(f"{name}.out_proj", queries, inner, _DIM),
        )

    def plus(self, name: str, rows: int) -> LayerSpec:
        return self.elementwise(name, "add", rows * _DIM, rows * _DIM)

    def cross(self, name: str, norm: str, *, to_image: bool) -> Layers:
        """Attention between tokens and image, with positions added to both sides before it."""
        queries, keys = (self.tokens, self.image) if to_image else (self.image, self.tokens)
        return (
            self.plus(f"{name}.add_token_pe", self.tokens),
            self.plus(f"{name}.add_image_pe", self.image),
            *self.attention(name, queries, keys, _CROSS),
            self.plus(f"{name}.add", queries),
            self.norm(norm, queries),
        )

    def layer(self, index: int) -> Layers:
        name, first = f"transformer.layers.{index}", index == 0
        # the first layer adds no position to its tokens and has no residual around them
        before = () if first else (self.plus(f"{name}.self_attn.add_pe", self.tokens),)
        after = () if first else (self.plus(f"{name}.self_attn.add", self.tokens),)
        return (
            *before,
            *self.attention(f"{name}.self_attn", self.tokens, self.tokens, _DIM),
            *after,
            self.norm(f"{name}.norm1", self.tokens),
            *self.cross(f"{name}.cross_attn_token_to_image", f"{name}.norm2", to_image=True),
            self.linear(f"{name}.mlp.lin1", self.tokens, _DIM, _MLP),
            self.relu(f"{name}.mlp.act", self.tokens * _MLP),
            self.linear(f"{name}.mlp.lin2", self.tokens, _MLP, _DIM),
            self.plus(f"{name}.mlp.add", self.tokens),
            self.norm(f"{name}.norm3", self.tokens),
            *self.cross(f"{name}.cross_attn_image_to_token", f"{name}.norm4", to_image=False),
        )

    def upscale(self, name: str, c_in: int, c_out: int, side: int) -> LayerSpec:
        return ops.conv_transpose(
            f"mask_decoder.{name}", (c_in, c_out), 2, side, self.to_float, **_REST
        )

    def upscaling(self) -> Layers:
        pixels, wide, thin = self.image, _DIM // 4, _DIM // 8
        return (
            self.upscale("output_upscaling.0", _DIM, wide, self.grid),
            self.norm("output_upscaling.1", 4 * pixels, wide),
            self.elementwise("output_upscaling.2", "act", 4 * pixels * wide),
            self.upscale("output_upscaling.3", wide, thin, 2 * self.grid),
            self.elementwise("output_upscaling.4", "act", 16 * pixels * thin),
        )

    def mlp(self, name: str, out: int) -> Layers:
        sizes = (_DIM, _DIM, _DIM, out)
        layers: list[LayerSpec] = []
        for index in range(3):
            c_in, c_out = sizes[index], sizes[index + 1]
            layers.append(self.linear(f"{name}.layers.{index}", 1, c_in, c_out))
            if index < 2:
                layers.append(self.relu(f"{name}.act.{index}", c_out))
        return tuple(layers)

    def token_embeddings(self) -> LayerSpec:
        elems, bits = _OUTPUT_TOKENS * _DIM, Bits(FLOAT_BITS, self.bits, self.bits)
        return LayerSpec("mask_decoder.tokens", "embed", 0, elems, 0, elems, **bits.spec(), **_REST)


def mask_decoder_layers(grid: int, *, bits: int = 16, tokens: int = PROMPT_TOKENS) -> Layers:
    """Two-way transformer, upscaling, mask and IoU heads for one prompt of `tokens` tokens.

    All four masks are computed, as in the package, whichever is returned. `bits` are the bits of
    weights and activations alike: 16 by default, 8 for a W8A8 decoder, 32 for fp32. Resizing the
    logits to the picture is left to the caller and not counted.
    """
    d = _Decoder(bits, max(bits, 16), _OUTPUT_TOKENS + tokens, grid)
    thin = _DIM // 8
    heads = [d.mlp(f"output_hypernetworks_mlps.{mask}", thin) for mask in range(_MASKS)]
    return (
        d.token_embeddings(),
        d.plus("add_dense_prompt", d.image),
        *(layer for index in range(_DEPTH) for layer in d.layer(index)),
        *d.cross(
            "transformer.final_attn_token_to_image", "transformer.norm_final_attn", to_image=True
        ),
        *d.upscaling(),
        *(layer for head in heads for layer in head),
        d.matmul("masks", 1, _MASKS, thin, 16 * d.image),
        *d.mlp("iou_prediction_head", _MASKS),
    )
