"""Arm kernels run in an emulator: an object file, four runtime functions, and `qemu-aarch64`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from hwnas.device import find
from hwnas.measure.builder import Builder
from hwnas.measure.kernel import Kernel
from hwnas.measure.numerics import check_result

pytest.importorskip("tvm")
_CC, _RUN = "aarch64-linux-gnu-gcc", "qemu-aarch64"
pytestmark = [
    pytest.mark.tvm,
    pytest.mark.skipif(
        not (shutil.which(_CC) and shutil.which(_RUN)), reason=f"needs {_CC} and {_RUN}"
    ),
]

KERNELS = (
    "linear-14x36x20-fp32-w32a32",
    "linear-14x36x20-int8-w8a8",
    "linear-30x36x21-int8-w4a8",
    "conv-8x20x3x1x1x5-int8-w2a8",
    "attention-2x2x4x16-fp32-w32a32",
    "attention-2x2x4x16-int8-w8a8",
    "matmul-2x7x20x30-int8-w8a8",
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


@pytest.mark.slow
@pytest.mark.parametrize("device", ["raspberry-pi-4", "raspberry-pi-5"])
@pytest.mark.parametrize("key", KERNELS)
def test_computes_what_torch_computes(key: str, device: str, tmp_path: Path) -> None:
    builder = Builder(find(device), tmp_path / "cache")
    kernel = Kernel.from_key(key)
    built, problem = builder.build(kernel), builder.problem(kernel)
    (tmp_path / "main.c").write_text(_MAIN.replace("SYMBOL", built.symbol))
    program = tmp_path / "program"
    subprocess.run(
        [_CC, "-O1", "-w", "-static", str(tmp_path / "main.c"), str(built.object), "-lm", "-o",
         str(program)],
        check=True,
    )  # fmt: skip
    arrays = [*problem.inputs, *problem.constants, np.zeros(problem.output, np.float32)]
    command = [_RUN, str(program)]
    for index, array in enumerate(arrays):
        file = tmp_path / f"{index}.bin"
        array.tofile(file)
        code = _CODES[array.dtype.kind]
        command += [str(file), str(array.size), str(code), str(array.dtype.itemsize * 8)]
    subprocess.run(command, check=True, timeout=60)
    check_result(key, np.fromfile(file, np.float32), problem)
