"""Fixed transforms along the features of a layer, applied to low-rank factors.

A pair in the frequency domain, F⁻¹ B A F, is made a pair of real factors of the weight: B' (O, R)
and A' (R, I) with B' A' the delta. Done once a step on the factors, this costs r O O + r I I;
on activations it would cost as much for every token.

`dct`: the orthonormal DCT-II, R = r. `rfft`: complex factors over the real Fourier transform;
`dft_real`: real factors over the whole one, of whose output the real part is taken. Both give
R = 2 r, by Re(U V) = Re U Re V - Im U Im V.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Protocol

import torch

__all__ = ["TRANSFORMS", "Transform", "dct_matrix"]


@lru_cache(maxsize=64)
def dct_matrix(n: int, device: torch.device | None = None) -> torch.Tensor:
    """The orthonormal DCT-II (n, n): C x is the transform of x, and C Cᵀ = I. Do not change it."""
    with torch.inference_mode(False):  # it is kept, and may be asked for by training later
        k = torch.arange(n, dtype=torch.float64)
        found = torch.cos(math.pi / n * (k[None, :] + 0.5) * k[:, None]) * math.sqrt(2 / n)
        found[0] /= math.sqrt(2)
        return found.float().to(device or torch.device("cpu"))


class Transform(Protocol):
    """A transform of features: the shape of the factors in its domain, and the way back.

    `pieces` is how many real ranks a rank becomes.
    """

    pieces: int

    def lengths(self, n: int) -> tuple[int, ...]:
        """The trailing sizes of a factor that acts on n features."""
        ...

    def rows(self, a: torch.Tensor, n: int) -> torch.Tensor:
        """The factor A (r, *lengths) as real rows A' (pieces * r, n)."""
        ...

    def columns(self, b: torch.Tensor, n: int) -> torch.Tensor:
        """The factor Bᵀ (r, *lengths) as real columns, transposed: (pieces * r, n)."""
        ...


class Plain:
    """No transform: LoRA."""

    pieces = 1

    def lengths(self, n: int) -> tuple[int, ...]:
        return (n,)

    def rows(self, a: torch.Tensor, n: int) -> torch.Tensor:
        return a

    def columns(self, b: torch.Tensor, n: int) -> torch.Tensor:
        return b


class Cosine:
    """A' = A C, B' = Cᵀ B."""

    pieces = 1

    def lengths(self, n: int) -> tuple[int, ...]:
        return (n,)

    def rows(self, a: torch.Tensor, n: int) -> torch.Tensor:
        return a @ dct_matrix(n, a.device)

    def columns(self, b: torch.Tensor, n: int) -> torch.Tensor:
        return b @ dct_matrix(n, b.device)


class RealFourier:
    """Complex factors, kept as pairs of real numbers, over the n // 2 + 1 frequencies of rfft."""

    pieces = 2

    def lengths(self, n: int) -> tuple[int, ...]:
        return (n // 2 + 1, 2)

    def rows(self, a: torch.Tensor, n: int) -> torch.Tensor:
        # A F, with F (n/2+1, n) symmetric where it is square: row k of A F is the whole
        # transform of row k of A, padded by zeros
        found = torch.fft.fft(torch.view_as_complex(a), n=n, norm="ortho")
        return torch.cat([found.real, found.imag], dim=-2)

    def columns(self, b: torch.Tensor, n: int) -> torch.Tensor:
        # irfft is real-linear: irfft(c z) = irfft(c) Re z + irfft(i c) Im z
        c = torch.view_as_complex(b)
        parts = [torch.fft.irfft(part, n=n, norm="ortho") for part in (c, 1j * c)]
        return torch.cat(parts, dim=-2)


class FourierRealPart:
    """Real factors over all n frequencies; the imaginary part of the output is dropped."""

    pieces = 2

    def lengths(self, n: int) -> tuple[int, ...]:
        return (n,)

    def rows(self, a: torch.Tensor, n: int) -> torch.Tensor:
        found = torch.fft.fft(a, norm="ortho")
        return torch.cat([found.real, found.imag], dim=-2)

    def columns(self, b: torch.Tensor, n: int) -> torch.Tensor:
        found = torch.fft.ifft(b, norm="ortho")
        return torch.cat([found.real, -found.imag], dim=-2)


TRANSFORMS: dict[str, Transform] = {
    "dct": Cosine(),
    "rfft": RealFourier(),
    "dft_real": FourierRealPart(),
    "none": Plain(),
}
