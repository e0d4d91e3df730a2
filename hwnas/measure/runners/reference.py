"""The fixed kernel that runs beside every subject and tells how fast the device is just then.

It must never change: drift is found by comparing its times over a whole campaign. So it is not one
of the kernels that we keep improving, and it is plain on purpose.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["REFERENCE", "SIDE", "reference_module"]

REFERENCE: Final = "hwnas_reference_matmul_128"
SIDE: Final = 128
_LANES: Final = 8


def reference_module(target: Any) -> Any:
    """Compile a float32 product of two matrices of 128 x 128 for a CPU target."""
    import tvm
    from tvm import s_tir, te

    left = te.placeholder((SIDE, SIDE), "float32", "left")
    right = te.placeholder((SIDE, SIDE), "float32", "right")
    k = te.reduce_axis((0, SIDE), "k")
    product = te.compute(
        (SIDE, SIDE), lambda i, j: te.sum(left[i, k] * right[k, j], axis=k), name="product"
    )
    function = te.create_prim_func([left, right, product]).with_attr("global_symbol", REFERENCE)
    schedule = s_tir.Schedule(tvm.IRModule({REFERENCE: function}))
    schedule.work_on(REFERENCE)
    block = schedule.get_sblock("product")
    i, j, inner = schedule.get_loops(block)
    outer, lane = schedule.split(j, [None, _LANES])
    schedule.reorder(i, outer, inner, lane)
    schedule.vectorize(lane)
    start = schedule.decompose_reduction(block, inner)
    schedule.vectorize(schedule.get_loops(start)[-1])
    return tvm.compile(schedule.mod, target=target)
