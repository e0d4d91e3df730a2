"""From a subnet's layers to the constants of a kernel.

A layer of `hwnas.quant.linear` holds what torch multiplies; a kernel wants its weight packed for a
vector unit, and the scales, the share of the input's offset and the bias folded into one factor and
one shift a channel (`hwnas.measure.kernels.gemm.pack`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch

from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels.family import Array
from hwnas.measure.kernels.gemm import pack
from hwnas.measure.kernels.isa import Isa
from hwnas.measure.kernels.packing import WIDTHS
from hwnas.quant.linear import ActivationGrid, FloatLinear, IntegerLinear

__all__ = ["ProductWeight", "array", "grid_constants"]

_CENTER: Final = 128  # int8 holds the unsigned codes minus 128 (`hwnas.quant.linear`)
_FULL: Final = {"fp32": 32, "tf32": 32, "fp16": 16, "bf16": 16}
_CODES: Final = "int8"


@dataclass(frozen=True)
class ProductWeight:
    """A weight as (depth, columns), whatever layer it belongs to.

    Attributes:
        values: Integer codes, or floats where `scale` is None.
        scale: Of the codes of each column (columns,).
        bias: (columns,)
        grid: Of the input; None leaves it in floating point.
    """

    values: Array
    scale: Array | None
    bias: Array
    grid: ActivationGrid | None

    @classmethod
    def of(cls, layer: Any) -> ProductWeight:
        """Read a linear layer of a subnet.

        Raises:
            DeviceError: its codes are not known, because torch has no exact int8 product here.
        """
        if isinstance(layer, IntegerLinear):
            grid = layer.grid
            scale = array(layer.factor).astype(np.float64) / grid.scale
            codes = array(layer.weight).T.astype(np.int64)
            folded = (grid.offset + _CENTER * grid.scale) * scale * codes.sum(0)
            return cls(codes, scale, array(layer.bias).astype(np.float64) - folded, grid)
        if isinstance(layer, FloatLinear):
            return cls(array(layer.weight).T, None, array(layer.bias), layer.grid)
        raise DeviceError(
            f"{type(layer).__name__} holds no integer codes: torch multiplies int8 inexactly on "
            "this machine, so subnets are built without them; export on a processor with a dot "
            "product of bytes (AVX-512 VNNI, AVX-VNNI, or Arm dotprod)"
        )

    def reordered(self, order: Array) -> ProductWeight:
        """The same with another order of the depth."""
        return replace(self, values=self.values[order])

    def kernel(self, measured: Kernel) -> Kernel:
        """The kernel that holds this weight: the measured one, wider where the codes do not fit.

        The centered grid of 2 bits has the codes -3 to 3, which take 4 bits; a weight whose codes
        were multiplied out is kept at the full width of the arithmetic.
        """
        if self.scale is None:
            return replace(measured, w_bits=_FULL.get(measured.dtype, measured.w_bits))
        low, high = int(self.values.min(initial=0)), int(self.values.max(initial=0))
        fits = [b for b in WIDTHS if -(1 << (b - 1)) <= low and high < 1 << (b - 1)]
        return replace(measured, w_bits=max(measured.w_bits, fits[0]))

    def constants(self, kernel: Kernel, isa: Isa) -> tuple[Array, ...]:
        """The constants of a kernel that takes this weight.

        Raises:
            DeviceError: an integer kernel is asked to multiply what is no code.
        """
        if kernel.dtype == _CODES:
            if self.scale is None or self.grid is None:
                raise DeviceError(
                    f"{kernel.key} multiplies codes, but the layer is in floating point; compile "
                    "the subnet for the device whose profile lowered it"
                )
            return pack(
                kernel, isa, self.values, self.bias, weight_scale=self.scale,
                scale=self.grid.scale, offset=self.grid.offset, highest=self.grid.highest,
            )  # fmt: skip
        if self.scale is None:
            return pack(kernel, isa, self.values, self.bias)
        if kernel.w_bits < _FULL[kernel.dtype]:
            return pack(kernel, isa, self.values, self.bias, weight_scale=self.scale)
        return pack(kernel, isa, self.values * self.scale, self.bias)


def grid_constants(grid: ActivationGrid) -> tuple[Array, ...]:
    """The constant of a `quantize` kernel."""
    return (np.array([grid.scale, 1 / grid.scale, grid.offset, grid.highest], np.float32),)


def array(tensor: torch.Tensor) -> Array:
    """A tensor as a numpy array of its own type."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
