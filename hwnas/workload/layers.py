"""One layer of a lowered network, and the list of them."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from hwnas.errors import CostError

if TYPE_CHECKING:
    from hwnas.workload.table import LayerTable

KINDS: tuple[str, ...] = (
    "conv", "dwconv", "linear", "matmul", "softmax", "norm", "act", "add", "pool", "resize",
    "embed", "quantize", "window",
)  # fmt: skip
"""Every kind of layer; the position of a kind is its code in a `LayerTable`."""

FLOAT_BITS = 32
"""Bits of a parameter that is stored as it is: a bias, a scale, a norm, a position table."""


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What one layer computes, reads and writes for one image (or, `per_prompt`, one prompt).

    Element counts are numbers of scalars, bits are per scalar; 16 and 32 bits mean floating point.

    Attributes:
        name: Unique within a workload, for example `blocks.3.qkv`.
        kind: One of `KINDS`.
        macs: Multiply-accumulates, padding included.
        w_bits: Bits of the weight, or of the second operand where two activations meet
            (`matmul`, `add`).
        a_bits: Bits of the input activation.
        out_bits: Bits of the output as it is written for the next layer.
        weight_elems: Weights, or for `norm` and `embed` the parameters held at `w_bits`.
        in_elems: Scalars of the input.
        out_elems: Scalars of the output.
        extra_in_elems: Scalars of the second activation operand, held at `w_bits`.
        scales: Quantizer constants stored with the layer, each of `FLOAT_BITS`.
        bias_elems: Biases, each of `FLOAT_BITS`.
        element_ops: Operations on single elements, counted apart from MACs.
        held_bits: Bits of tensors that stay alive across this layer without being touched by it
            (a residual stream, the values of an attention), for the peak of activation memory.
        shape: Sizes that a kernel builder needs; the builders in `hwnas.workload.ops` say which.
        group: Part of the network that a breakdown adds this layer to, `blocks.3` say.
        per_prompt: Runs once for each prompt instead of once for each image.

    Raises:
        CostError: `kind` is not known, or a bit-width or a count is impossible.
    """

    name: str
    kind: str
    macs: int
    weight_elems: int
    in_elems: int
    out_elems: int
    extra_in_elems: int = 0
    w_bits: int = FLOAT_BITS
    a_bits: int = FLOAT_BITS
    out_bits: int = FLOAT_BITS
    scales: int = 0
    bias_elems: int = 0
    element_ops: int = 0
    held_bits: int = 0
    shape: tuple[int, ...] = ()
    group: str = ""
    per_prompt: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = difflib.get_close_matches(str(self.kind), KINDS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise CostError(
                f"layer {self.name}: unknown kind {self.kind!r}{hint} Known: {', '.join(KINDS)}"
            )
        if min(self.w_bits, self.a_bits, self.out_bits) < 1:
            raise CostError(
                f"layer {self.name}: bits ({self.w_bits}, {self.a_bits}, {self.out_bits}) of "
                "weight, input and output must each be at least 1; 16 and 32 mean floating point"
            )
        if min(self.macs, self.weight_elems, self.in_elems, self.out_elems) < 0:
            raise CostError(f"layer {self.name}: counts must not be negative: {self}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return fields | {"shape": list(self.shape)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Read `to_dict` back."""
        return cls(**{**fields, "shape": tuple(fields.get("shape", ()))})


@dataclass(frozen=True, slots=True)
class Workload:
    """The layers of one architecture in the order in which they run.

    `input_shape` is (C, H, W) of one image; every count of a layer is for a batch of one, and
    `batch` says how many images run at once.
    """

    layers: tuple[LayerSpec, ...]
    input_shape: tuple[int, ...] = ()
    batch: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image and one prompt."""
        return sum(layer.macs for layer in self.layers)

    def table(self) -> LayerTable:
        """Return the layers as a struct of arrays."""
        from hwnas.workload.table import LayerTable  # at the top it would be a circle

        return LayerTable.of(self.layers)

    def to_json(self) -> str:
        """Return canonical JSON; `from_json` reads it back."""
        layers = [layer.to_dict() for layer in self.layers]
        value = {"layers": layers, "input_shape": list(self.input_shape), "batch": self.batch}
        return json.dumps(value, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read `to_json` back."""
        value = json.loads(text)
        layers = tuple(LayerSpec.from_dict(fields) for fields in value["layers"])
        return cls(layers, tuple(value["input_shape"]), value["batch"])
