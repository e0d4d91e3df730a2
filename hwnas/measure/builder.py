"""Compiles kernels for a device, checks their numbers, and keeps the libraries."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from hwnas.device.catalog import HOST
from hwnas.device.host import is_this_machine
from hwnas.errors import DeviceError
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import FAMILIES, SCHEDULE_VERSION, Family, Isa, Problem, isa_of
from hwnas.measure.kernels.gpu import GPU, emit_gpu, schedule_gpu
from hwnas.measure.kernels.schedule import DEFAULT, Schedule
from hwnas.measure.numerics import check_result
from hwnas.measure.tuned import FILE, digest, read_tuned

if TYPE_CHECKING:
    from hwnas.device import DeviceProfile

__all__ = ["Builder", "BuiltKernel", "linker_of", "target_of"]

_CHECK_SEED: Final = 20260801


@dataclass(frozen=True)
class BuiltKernel:
    """A compiled kernel.

    Attributes:
        kernel: What it computes.
        symbol: Name of the function in the library.
        library: A shared library, for a GPU a `.tar` that an RPC server links; None where the
            target's linker is not installed.
        object: The object file that it was linked from, to link several kernels into one library;
            None for a GPU, whose code is no object.
        checked: Whether its numbers were compared here; another machine's kernels cannot be.
    """

    kernel: Kernel
    symbol: str
    library: Path | None
    object: Path | None
    checked: bool

    @cached_property
    def module(self) -> Any:
        """The loaded library; only a library for this machine loads."""
        import tvm

        if self.library is None:
            raise DeviceError(f"{self.kernel.key} has an object file only, {self.object}")
        return tvm.runtime.load_module(str(self.library))

    @property
    def function(self) -> Any:
        """Call it with the inputs, the constants and the output, TVM tensors of one dimension."""
        return self.module[self.symbol]


class Builder:
    """Builds kernels for one device.

    A library is kept under the kernel's key, the target, TVM's version and the version of our
    kernels; it enters the cache only after its numbers were found right.

    Args:
        device: What to compile for, by its `tvm_target`.
        cache: Folder of the libraries; None: a temporary one, gone with the builder.
        schedules: How kernels use the vector unit, where not as by default; None: what tuning has
            written into the cache.

    Raises:
        DeviceError: the device names no TVM target, or TVM refuses it.
    """

    def __init__(
        self,
        device: DeviceProfile,
        cache: Path | None = None,
        schedules: Mapping[Kernel, Schedule] | None = None,
    ) -> None:
        self.device = device
        self.target = target_of(device)
        self.on_gpu = self.target.kind.name != "llvm"
        self.isa: Isa = GPU if self.on_gpu else isa_of(self.target)
        self.cache = cache or Path(tempfile.mkdtemp(prefix="kernels-"))
        if cache is None:
            weakref.finalize(self, shutil.rmtree, self.cache, ignore_errors=True)
        if schedules is None:
            tuned = read_tuned(self.cache / FILE, str(self.target))
            schedules = {kernel: found.schedule for kernel, found in tuned.items()}
        self._schedules = schedules
        self._built: dict[Kernel, BuiltKernel] = {}

    def build(self, kernel: Kernel) -> BuiltKernel:
        """Return the compiled kernel, from the cache if it is there.

        Raises:
            DeviceError: no family knows the kind, TVM cannot compile it, or its numbers are wrong.
        """
        if kernel not in self._built:
            self._built[kernel] = self._cached(kernel)
        return self._built[kernel]

    def problem(self, kernel: Kernel, seed: int = _CHECK_SEED) -> Problem:
        """Draw arguments of a kernel as this device's library wants them."""
        return _family(kernel).problem(kernel, self.isa, np.random.default_rng(seed))

    @property
    def version(self) -> str:
        """TVM's version, that of our kernels, and a hash of their tuned schedules if there are any.

        Times of different versions do not compare.
        """
        import tvm

        tuned = digest(self._schedules)
        return f"{tvm.__version__}+schedules{SCHEDULE_VERSION}{f'+tuned{tuned}' if tuned else ''}"

    @property
    def runs_here(self) -> bool:
        """Whether libraries are for the machine that this runs on."""
        return is_this_machine(self.device)

    def _cached(self, kernel: Kernel) -> BuiltKernel:
        symbol = kernel.key.replace("-", "_")
        files = self._files(kernel)
        if any(path is not None and not path.exists() for path in files):
            self._compile(kernel, symbol, files)
        return BuiltKernel(kernel, symbol, *files, self.runs_here)

    def _files(self, kernel: Kernel) -> tuple[Path | None, Path | None]:
        """Where the library and the object of a kernel are kept, as far as it has them."""
        stem = self.cache / f"{kernel.key}-{self._tag(kernel)}"
        if self.on_gpu:
            return stem.with_name(f"{stem.name}.tar"), None
        library = None if self._linker is None else stem.with_name(f"{stem.name}.so")
        return library, stem.with_name(f"{stem.name}.o")

    @cached_property
    def _linker(self) -> Any:
        return linker_of(self.target, self.runs_here)

    def _tag(self, kernel: Kernel) -> str:
        """Short hash of all that a library depends on besides its kernel."""
        import tvm

        parts: list[object] = [str(self.target), tvm.__version__, SCHEDULE_VERSION]
        chosen = self._schedules.get(kernel, DEFAULT)
        if chosen != DEFAULT:
            parts.append(chosen.to_dict())
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]

    def _compile(self, kernel: Kernel, symbol: str, files: tuple[Path | None, Path | None]) -> None:
        """Compile and check; files appear under their names last, and whole."""
        import tvm

        family = _family(kernel)
        try:
            isa = replace(self.isa, schedule=self._schedules.get(kernel, DEFAULT))
            function = emit_gpu(kernel) if self.on_gpu else family.emit(kernel, isa)
            module = tvm.IRModule({symbol: function.with_attr("global_symbol", symbol)})
            if self.on_gpu:
                module = schedule_gpu(module, self.target)
            executable = tvm.compile(module, target=self.target)
        except Exception as error:  # whatever TVM or LLVM raises
            raise DeviceError(
                f"{kernel.key} does not compile for {self.device.id} ({self.target}): "
                f"{_first_line(error)}; leave the kernel out and report it"
            ) from error
        self.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.cache, prefix=".building-") as folder:
            library, object_ = (None if f is None else Path(folder) / f.name for f in files)
            if library is not None:
                link = {"fcompile": self._linker} if self._linker and not self.on_gpu else {}
                executable.export_library(str(library), **link)
            if object_ is not None:
                executable.mod.write_to_file(str(object_))
            if self.runs_here:
                self.check(BuiltKernel(kernel, symbol, library, object_, True))
            for made, kept in zip((object_, library), reversed(files), strict=True):
                if made is not None and kept is not None:
                    os.replace(made, kept)

    def check(self, built: BuiltKernel, seed: int = _CHECK_SEED) -> float:
        """Run a kernel on random arguments and return its relative error.

        Raises:
            DeviceError: the numbers are wrong.
        """
        import tvm

        problem = self.problem(built.kernel, seed)
        output = tvm.runtime.tensor(np.zeros(problem.output, np.float32))
        arguments = [tvm.runtime.tensor(a) for a in (*problem.inputs, *problem.constants)]
        built.function(*arguments, output)
        return check_result(built.kernel.key, output.numpy(), problem)


def target_of(device: DeviceProfile) -> Any:
    """Return the device's TVM target; this machine's processor is filled in by LLVM's name.

    Raises:
        DeviceError: the profile has no target, or TVM does not know it.
    """
    import tvm

    fields = device.tvm_target
    if fields is None:
        raise DeviceError(
            f"{device.id} has no tvm_target in its profile, so nothing can be compiled for it; "
            "add one, or measure it with another runner"
        )
    if device.id == HOST:
        codegen = tvm.target.codegen
        fields = {
            **fields,
            "mtriple": codegen.llvm_get_system_triple(),
            "mcpu": codegen.llvm_get_system_cpu(),
        }
    try:
        return tvm.target.Target(fields["tag"] if set(fields) == {"tag"} else fields)
    except Exception as error:  # TVM raises several kinds
        raise DeviceError(
            f"TVM does not know the target of {device.id}, {fields}: {_first_line(error)}; "
            "correct tvm_target in its profile"
        ) from error


def _family(kernel: Kernel) -> Family:
    if kernel.kind not in FAMILIES:
        raise DeviceError(
            f"{kernel.key}: no kernels of kind {kernel.kind!r}; known: {', '.join(FAMILIES)}"
        )
    return FAMILIES[kernel.kind]


def linker_of(target: Any, here: bool) -> Any:
    """Return how to link a shared library; None where the target's compiler is not installed."""
    from tvm.support import cc

    triple = str(target.attrs.get("mtriple", ""))
    if here or triple.partition("-")[0] in ("", platform.machine()):
        return cc.create_shared
    compiler = shutil.which(f"{triple}-gcc")
    if compiler is None:
        return None
    # without the triple TVM packs the bytecode into an object for this machine
    return cc.cross_compiler(compiler, get_target_triple=lambda: triple)


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else type(error).__name__
