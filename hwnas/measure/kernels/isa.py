"""What a kernel writer needs to know of a CPU's vector unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from hwnas.measure.kernels.schedule import DEFAULT, Schedule

__all__ = ["PORTABLE", "Dot", "Isa", "isa_of"]

Dot = Literal["vpdpbusd", "sdot", "none"]


@dataclass(frozen=True, slots=True)
class Isa:
    """A vector unit.

    Attributes:
        name: Short name, part of a compiled kernel's key.
        lanes: float32 (and int32) numbers in a register.
        registers: Vector registers that a compiler may use.
        dot: Instruction that adds four products of bytes to each int32 lane. `vpdpbusd` multiplies
            unsigned by signed bytes, `sdot` signed ones; `none`: widened and multiplied.
        float16: Multiplies float16 vectors.
        schedule: How the kernel that is being written uses it.
    """

    name: str
    lanes: int
    registers: int
    dot: Dot
    float16: bool = False
    schedule: Schedule = DEFAULT

    @property
    def code_offset(self) -> int:
        """What is taken from an activation's code (0 to 255) so that it fits the instruction."""
        return 128 if self.dot == "sdot" else 0

    @property
    def code_type(self) -> str:
        """Data type of an activation's code."""
        return "int8" if self.dot == "sdot" else "uint8"


PORTABLE: Final = Isa("portable", 4, 32, "none")


def isa_of(target: Any) -> Isa:
    """Read the vector unit from the features that LLVM knows of a TVM target.

    Unknown architectures get vectors of 128 bits, which LLVM lowers to what there is.
    """
    import tvm

    triple = str(target.attrs.get("mtriple", "") or tvm.target.codegen.llvm_get_system_triple())

    def has(*features: str) -> bool:
        return bool(tvm.target.codegen.target_has_features(list(features), target))

    if triple.startswith(("aarch64", "arm64")):
        return Isa("neon", 4, 32, "sdot" if has("dotprod") else "none", has("fullfp16"))
    if triple.startswith("x86_64"):
        if has("avx512f", "avx512bw", "avx512vl"):
            vnni = has("avx512vnni")
            return Isa("avx512", 16, 32, "vpdpbusd" if vnni else "none", has("avx512fp16"))
        if has("avx2", "fma"):
            return Isa("avx2", 8, 16, "vpdpbusd" if has("avxvnni") else "none")
        return Isa("sse", 4, 16, "none")
    return PORTABLE
