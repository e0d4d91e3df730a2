"""An encoder-decoder transformer as a one-file space: layers, heads, FFN widths and bit-widths."""

from __future__ import annotations

from hwnas.registry import search_spaces
from hwnas.space import Choice, Repeat, SearchSpace, Slot, ordinal, repeat
from hwnas.workload import LayerSpec

TOKENS, DIM, LAYERS = 32, 128, 3
CHOICES = [
    ordinal("heads", (2, 4, 8), role="width"),
    ordinal("ffn", (128, 256, 512), role="width"),
    ordinal("bits", (2, 4, 8), role="bits"),
]


def linear(name: str, inputs: int, outputs: int, bits: int) -> LayerSpec:
    macs, weights = TOKENS * inputs * outputs, inputs * outputs
    return LayerSpec(
        name, "linear", macs, weights, TOKENS * inputs, TOKENS * outputs, w_bits=bits, a_bits=bits
    )


def block(name: str, attentions: int, heads: int, ffn: int, bits: int) -> tuple[LayerSpec, ...]:
    width = 16 * heads
    layers = []
    for i in range(attentions):
        scores = TOKENS * TOKENS * width
        mixed = LayerSpec(
            f"{name}.mix.{i}", "matmul", 2 * scores, 0, TOKENS * width, TOKENS * width,
            extra_in_elems=2 * TOKENS * width, w_bits=8, a_bits=8,
        )  # fmt: skip
        layers += [
            linear(f"{name}.qkv.{i}", DIM, 3 * width, bits),
            mixed,
            linear(f"{name}.out.{i}", width, DIM, bits),
        ]
    return (*layers, linear(f"{name}.up", DIM, ffn, bits), linear(f"{name}.down", ffn, DIM, bits))


def slot(part: str, index: int, attentions: int) -> Slot:
    name = f"{part}.{index}"
    genes = (f"{name}.heads", f"{name}.ffn", f"{name}.bits")
    return Slot(name, genes, lambda *values: block(name, attentions, *values), shared=part)


def translator() -> SearchSpace:
    """Return the space."""
    declarations: list[Choice | Repeat] = []
    for part in ("encoder", "decoder"):
        depth = ordinal(f"{part}_layers", (1, 2, 3), role="depth")
        declarations += [depth, repeat(part, LAYERS, CHOICES, depth=depth.name)]
    slots = [slot("encoder", i, 1) for i in range(LAYERS)]
    slots += [slot("decoder", i, 2) for i in range(LAYERS)]
    return SearchSpace("translator", declarations, slots=slots)


search_spaces.register("translator")(translator)
