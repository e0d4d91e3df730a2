"""Kernels of other processors run in an emulator: an object file, a few runtime functions, QEMU."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hwnas.device import DeviceProfile, find
from hwnas.device.lookup import from_dict
from hwnas.measure.builder import Builder
from hwnas.measure.kernel import Kernel
from hwnas.measure.kernels import FAMILIES
from hwnas.measure.numerics import check_result

pytest.importorskip("tvm")
pytestmark = [pytest.mark.tvm, pytest.mark.slow]

# Odd sizes everywhere: tiles, vectors and packed bytes all have a rest.
KERNELS = (
    "linear-14x36x20-fp32-w32a32",
    "linear-14x36x20-fp16-w16a16",
    "linear-14x36x20-int8-w8a8",
    "linear-30x36x21-int8-w4a8",
    "linear-30x36x21-int8-w2a8",
    "linear-3x36x21-int8-w6a8",
    "conv-8x20x3x1x1x5-int8-w2a8",
    "conv-3x20x4x4x1x5-fp32-w32a32",
    "conv_transpose-16x10x2x2x1x6-int8-w8a8",
    "conv_transpose-16x10x2x2x1x6-fp32-w32a32",
    "dwconv-20x20x3x2x20x7-int8-w8a8",
    "attention-2x2x4x16-fp32-w32a32",
    "attention-2x2x4x16-int8-w8a8",
    "attention-2x2x4x16-int8-w4a4",
    "cross_attention-2x7x9x24-fp32-w32a32",
    "cross_attention-2x7x9x24-int8-w8a8",
    "cross_attention-1x26x1100x20-fp32-w32a32",  # so many keys are summed in parts
    "cross_attention-1x26x1100x20-int8-w8a8",
    "matmul-2x7x20x30-int8-w8a8",
    "matmul-2x4x20x32-fp32-w32a32",
    "norm-4x30-fp32-w32a32",
    "softmax-4x30-fp32-w32a32",
    "add-100-fp32-w32a32",
    "gelu-100-fp32-w32a32",
    "relu-100-fp32-w32a32",
    "copy-100-fp32-w32a32",
    "quantize-100-fp32-w32a32",
    "window-5x2x6-fp32-w32a32",
    "unwindow-5x2x6-fp32-w32a32",
    "pool-6x10x2-fp32-w32a32",
    "resize-3x10x6-fp32-w32a32",
    "fourier-2x8-fp32-w32a32",
)
RISCV_KERNELS = (
    "linear-14x36x20-fp32-w32a32",
    "linear-14x36x20-int8-w8a8",
    "linear-30x36x21-int8-w4a8",
    "attention-2x2x4x16-fp32-w32a32",
    "norm-4x30-fp32-w32a32",
)

# Reads each argument from a file of its own, calls the kernel, and writes the last one back.
_MAIN = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef struct { int32_t type; uint32_t pad; union { int64_t i; void* p; } v; } Any;
typedef struct { void* data; struct { int32_t type, id; } device; int32_t ndim;
  struct { uint8_t code, bits; uint16_t lanes; } dtype; int64_t *shape, *strides;
  uint64_t offset; } Tensor;
typedef struct { void* sync; int32_t tasks; } Env;
typedef int (*Body)(int, Env*, void*);
extern int __tvm_ffi_SYMBOL(void*, Any*, int32_t, Any*);
void TVMFFIErrorSetRaisedFromCStrParts(const char* k, const char** p, int32_t n) {
  for (int i = 0; i < n; i++) fputs(p[i], stderr);
}
void TVMFFIErrorSetRaisedFromCStr(const char* k, const char* m) { fputs(m, stderr); }
static int launch(Body f, void* c, int n) { Env e = {0, 1}; return f(0, &e, c); }
static void* get(int t, int i, uint64_t n, int c, int b) {
  void* p; return posix_memalign(&p, 64, n) ? 0 : p;
}
static int put(int t, int i, void* p) { free(p); return 0; }
extern int (*__TVMBackendParallelLaunch)(Body, void*, int);
extern void* (*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*__TVMBackendFreeWorkspace)(int, int, void*);
#pragma weak __TVMBackendParallelLaunch
#pragma weak __TVMBackendAllocWorkspace
#pragma weak __TVMBackendFreeWorkspace
int main(int argc, char** argv) {
  if (&__TVMBackendParallelLaunch) __TVMBackendParallelLaunch = launch;
  if (&__TVMBackendAllocWorkspace) __TVMBackendAllocWorkspace = get;
  if (&__TVMBackendFreeWorkspace) __TVMBackendFreeWorkspace = put;
  int n = (argc - 1) / 4;
  Any args[16], result; Tensor tensors[16]; int64_t sizes[16];
  memset(args, 0, sizeof args); memset(tensors, 0, sizeof tensors);
  memset(&result, 0, sizeof result);
  for (int i = 0; i < n; i++) {
    char** a = argv + 1 + 4 * i;
    int bits = atoi(a[3]); sizes[i] = atoll(a[1]);
    size_t bytes = sizes[i] * bits / 8;
    Tensor* t = tensors + i;
    posix_memalign(&t->data, 64, bytes + 64);
    FILE* f = fopen(a[0], "rb"); if (fread(t->data, 1, bytes, f) != bytes) return 2; fclose(f);
    t->device.type = 1; t->ndim = 1; t->shape = sizes + i;
    t->dtype.code = atoi(a[2]); t->dtype.bits = bits; t->dtype.lanes = 1;
    args[i].type = 7; args[i].v.p = t;
  }
  int failed = __tvm_ffi_SYMBOL(0, args, n, &result);
  FILE* f = fopen(argv[1 + 4 * (n - 1)], "wb");
  fwrite(tensors[n - 1].data, 4, sizes[n - 1], f); fclose(f);
  return failed;
}
"""
_CODES = {"i": 0, "u": 1, "f": 2}  # of DLPack, by numpy's kind


def tools(architecture: str) -> tuple[str, str]:
    """Compiler and emulator, or a skipped test."""
    names = f"{architecture}-linux-gnu-gcc", f"qemu-{architecture}"
    missing = [name for name in names if not shutil.which(name)]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)}: install a cross compiler and qemu-user")
    return names


def check_emulated(
    key: str, device: DeviceProfile, architecture: str, folder: Path, cpu: str = "max"
) -> float:
    """Build a kernel for `device`, run it in the emulator, and return its relative error."""
    compiler, emulator = tools(architecture)
    builder, kernel = Builder(device, folder / "cache"), Kernel.from_key(key)
    built, problem = builder.build(kernel), builder.problem(kernel)
    assert not built.checked
    (folder / "main.c").write_text(_MAIN.replace("SYMBOL", built.symbol))
    program = folder / "program"
    subprocess.run(
        [compiler, "-O1", "-w", "-static", str(folder / "main.c"), str(built.object), "-lm", "-o",
         str(program)],
        check=True,
    )  # fmt: skip
    arrays = [*problem.inputs, *problem.constants, np.zeros(problem.output, np.float32)]
    command = [emulator, "-cpu", cpu, str(program)]
    for index, array in enumerate(arrays):
        file = folder / f"{index}.bin"
        array.tofile(file)
        code = _CODES[array.dtype.kind]
        command += [str(file), str(array.size), str(code), str(array.dtype.itemsize * 8)]
    subprocess.run(command, check=True, timeout=60)
    return check_result(key, np.fromfile(file, np.float32), problem)


def test_every_family_runs_here() -> None:
    assert {Kernel.from_key(key).kind for key in KERNELS} == set(FAMILIES)


@pytest.mark.parametrize("device", ["raspberry-pi-4", "raspberry-pi-5"])
@pytest.mark.parametrize("key", KERNELS)
def test_arm_computes_what_torch_computes(key: str, device: str, tmp_path: Path) -> None:
    check_emulated(key, find(device), "aarch64", tmp_path)


@pytest.mark.parametrize("key", KERNELS)
def test_the_processor_of_an_orin_computes_what_torch_computes(key: str, tmp_path: Path) -> None:
    target = find("jetson-orin-nano-8gb").tvm_target
    assert target is not None
    fields = find("raspberry-pi-5").to_dict() | {"id": "orin-host", "tvm_target": target["host"]}
    check_emulated(key, from_dict(fields), "aarch64", tmp_path)


@pytest.mark.parametrize("extensions", ["mafdc", "mafdcv"])
@pytest.mark.parametrize("key", RISCV_KERNELS)
def test_riscv_computes_what_torch_computes(key: str, extensions: str, tmp_path: Path) -> None:
    cpu = "rv64,v=true,vlen=128" if "v" in extensions else "rv64"
    check_emulated(key, riscv(extensions), "riscv64", tmp_path, cpu)


def riscv(extensions: str) -> DeviceProfile:
    """A 64-bit RISC-V processor with these extensions."""
    return from_dict(
        {
            "id": "riscv",
            "name": "RISC-V",
            "kind": "cpu",
            "processor": "RISC-V",
            "runtime": {"name": "tvm"},
            "threads": 1,
            "peak_tops_dense": {"fp32": {"value": 0.01, "status": "recalled", "source": "a test"}},
            "bandwidth_gbps": {"value": 5, "status": "recalled", "source": "a test"},
            "ram_bytes": {"value": 2**30, "status": "recalled", "source": "a test"},
            "pairs": [{"w": 32, "a": 32, "runs_as": "fp32"}],
            "fallback": "fp32",
            "tvm_target": {
                "kind": "llvm",
                "mtriple": "riscv64-linux-gnu",
                "mcpu": "generic-rv64",
                "mabi": "lp64d",
                "mattr": [f"+{letter}" for letter in extensions],
            },
        }
    )
