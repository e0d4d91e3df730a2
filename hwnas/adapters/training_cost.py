"""What a training step of an adapted encoder computes and keeps, by counting.

A frozen layer needs the gradient of its input, which takes as many multiplications as the layer
itself, and of its weight nothing. A layer whose adapter is a low-rank product computes that product
three times; one whose adapter is merged into the weight computes the gradient of the whole
weight, whatever it then keeps of it. Kept for backward are what gradients are computed from: inputs
of adapted layers, of norms and of GELU, q, k, v and the probabilities of attention. This is plain
autograd without recomputation, in float32. Counts are ours; `tests/adapters/test_training_cost.py`
holds them against what torch keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

from hwnas.workload.adapter_choice import AdapterChoice
from hwnas.workload.sam import BlockShape, EncoderPlan, encoder_layers
from hwnas.workload.sam_geometry import SamGeometry

__all__ = ["TrainingCost", "training_cost"]

_FLOAT = 4
_STATE = 4  # of a trained number: itself, its gradient, two moments of AdamW


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """One image, forward and backward.

    Attributes:
        macs: Multiply-accumulates of the encoder's step; `forward_macs` those of inference.
        saved_bytes: Tensors kept for backward.
        state_bytes: Trained numbers, their gradients and moments; `frozen_bytes` the rest.
    """

    macs: int
    forward_macs: int
    saved_bytes: int
    state_bytes: int
    frozen_bytes: int

    @property
    def memory_bytes(self) -> int:
        """All of it, for a batch of one image."""
        return self.saved_bytes + self.state_bytes + self.frozen_bytes


def training_cost(
    choice: AdapterChoice, geometry: SamGeometry, *, trained: int, has_product: bool,
    resolution: int | None = None,
) -> TrainingCost:  # fmt: skip
    """Count a step.

    Args:
        choice: The adapter; its kind decides `has_product`, its size `trained`.
        geometry: The encoder.
        trained: Trained numbers of all layers together.
        has_product: Whether its delta is applied to x without a merge.
        resolution: Side of the input in pixels; the largest by default.
    """
    plan = EncoderPlan.uniform(geometry, resolution=resolution)
    layers = encoder_layers(plan)
    forward = sum(layer.macs for layer in layers)
    adapted = [layer for layer in layers if choice.carries(layer)]
    first = next(i for i, layer in enumerate(layers) if layer is adapted[0])
    below = sum(layer.macs for layer in layers[:first])  # nothing there wants a gradient
    if has_product:
        thin = sum(choice.rank * sum(layer.shape[1:3]) * layer.shape[0] for layer in adapted)
        extra = 3 * thin
    else:
        extra = sum(layer.macs for layer in adapted)
    frozen = sum(layer.weight_elems + layer.bias_elems for layer in layers)
    return TrainingCost(
        macs=2 * forward - below + extra,
        forward_macs=forward,
        saved_bytes=_FLOAT
        * (_neck(plan) + sum(_saved(plan, choice, i) for i in range(geometry.depth))),
        state_bytes=_FLOAT * _STATE * trained,
        frozen_bytes=_FLOAT * frozen,
    )


def _saved(plan: EncoderPlan, choice: AdapterChoice, index: int) -> int:
    """Numbers that one block keeps."""
    shape = BlockShape.of(plan, plan.blocks[index])
    padded, tokens = shape.padded_tokens, shape.tokens
    inputs = {
        "qkv": padded * shape.dim, "proj": padded * shape.inner,
        "lin1": tokens * shape.dim, "lin2": tokens * shape.hidden,
    }  # fmt: skip
    # q, k and v in one, q scaled, the probabilities
    attention = 4 * padded * shape.inner + padded * shape.length * shape.heads
    own = sum(inputs[name] for name in choice.carriers) + inputs["lin2"]
    norm = tokens * shape.dim
    if index == 0 and "qkv" not in choice.carriers:  # no gradient goes below the first adapter
        return own
    return own + attention + (norm if index == 0 else 2 * norm)


def _neck(plan: EncoderPlan) -> int:
    """Of the neck: what its two norms over channels keep, which the stock model spells out."""
    return 6 * plan.grid**2 * plan.geometry.neck_dim
