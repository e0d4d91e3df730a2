"""Where a compiled encoder and the subnet in torch part, layer by layer.

Every layer is compared twice: as the whole network computes it, errors of all layers before it
included, and alone, on the input that torch gives it. Integer sums are exact in both, so the codes
of a layer's input decide: equal codes give equal sums. They differ where a number lies on the
border of two codes and was rounded differently before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from hwnas.export.tvm.encoder import IMAGE
from hwnas.export.tvm.interpreter import interpret
from hwnas.export.tvm.tracing import Codes, traced
from hwnas.export.tvm.writer import BoundProgram
from hwnas.measure.kernels.family import Array
from hwnas.supernet.subnet import Subnet

__all__ = ["LayerAgreement", "compare_layers"]


@dataclass(frozen=True, slots=True)
class LayerAgreement:
    """How one layer's output in the compiled program differs from torch's.

    Attributes:
        layer: Its name.
        error: |compiled - torch| / |torch| in the Euclidean norm, after all layers before it.
        own_error: The same of the layer alone, on torch's input.
        codes: Scalars of the input that are quantized; 0 for a layer in floating point.
        codes_differ: How many of them have another code after all layers before it.
        codes_by: The largest difference of two codes.
    """

    layer: str
    error: float
    own_error: float
    codes: int = 0
    codes_differ: int = 0
    codes_by: int = 0


def compare_layers(
    bound: BoundProgram, subnet: Subnet, image: torch.Tensor
) -> list[LayerAgreement]:
    """Compare the layers of an encoder, in the order of its calls, on one image (3, R, R)."""
    trace = traced(subnet.view(), image)
    expected = trace.buffers
    inputs = {IMAGE: expected[IMAGE]}
    here = interpret(bound, inputs)
    alone = interpret(bound, inputs, given=expected.get)
    found = []
    for call in bound.calls:
        name = call.layer
        if name not in expected:
            continue
        error, own = (_relative(side[name], expected[name]) for side in (here, alone))
        codes = _compared(name, trace.codes, here, expected)
        found.append(LayerAgreement(name, error, own, *codes))
    return found


def _compared(
    name: str,
    coders: Mapping[str, tuple[str, Codes]],
    here: Mapping[str, Array],
    expected: Mapping[str, Array],
) -> tuple[int, int, int]:
    """Codes of a layer's input, how many differ, and by how much at most."""
    if name not in coders:
        return 0, 0, 0
    source, codes = coders[name]
    difference = np.abs(codes(here[source]) - codes(expected[source]))
    return difference.size, int((difference > 0).sum()), int(difference.max(initial=0))


def _relative(found: Array, expected: Array) -> float:
    size = float(np.linalg.norm(expected)) or 1.0
    return float(np.linalg.norm(found - expected)) / size
