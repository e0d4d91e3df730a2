"""A small run, written by hand, that the tests of the report vary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hwnas.records import Evaluation
from hwnas.report import DeviceFigure, HypervolumeTrace, ReportData, ReportedCost, Rescoring
from hwnas.search.limit import Limit
from hwnas.space import SearchSpace, ordinal, repeat

LATENCY = ReportedCost(
    name="latency",
    unit="ms",
    direction="min",
    fidelity="estimated (roofline, no measurements yet)",
    note="1 prompt",
)
IOU = ReportedCost(name="iou", unit="", direction="max", fidelity="measured (on 1 image)")
SIZE = ReportedCost(
    name="model_size", unit="bytes", direction="min", fidelity="analytic", is_objective=False
)
BITOPS = ReportedCost(name="bitops", unit="GBitOPs", direction="min", fidelity="analytic")


def evaluation(index: int, *, iou: float, latency: float) -> Evaluation:
    depth = 2 if latency > 10 else 1
    genes = {"resolution": 256, "depth": depth}
    genes |= {f"blocks.{block}.w_bits": 8 - block for block in range(depth)}
    parts = {f"blocks.{b}.{part}": latency / 4 for b in range(depth) for part in ("qkv", "mlp")}
    return Evaluation(
        f"arch{index}",
        genes,
        {"iou": iou, "latency": latency, "model_size": 2.5e6, "bitops": latency * 2},
        intervals={"latency": (latency / 2, latency * 2)},
        fidelity={"latency": "estimated"},
        breakdown={"latency": parts},
        index=index,
    )


SPACE = SearchSpace(
    "small",
    [
        ordinal("resolution", (128, 256), role="resolution"),
        ordinal("depth", (1, 2), role="depth"),
        repeat("blocks", 2, [ordinal("w_bits", (4, 7, 8), role="bits")], depth="depth"),
    ],
)
EVALUATIONS = (
    evaluation(0, iou=0.9, latency=1234.5),
    evaluation(1, iou=0.8, latency=12.345),
    evaluation(2, iou=0.5, latency=3.0),
    evaluation(3, iou=0.4, latency=30.0),
    Evaluation("arch4", {}, {}, "failed", "latency: out of memory", index=4),
)
DATA = ReportData(
    title="small on a board",
    command="hwnas search --device board --seed 7",
    config="space: small\nseed: 7\n",
    space_name=SPACE.name,
    space_size=SPACE.size(),
    device_key="board:maxn",
    device_name="Board",
    costs=(IOU, LATENCY, SIZE),
    evaluations=EVALUATIONS,
    front=("arch0", "arch1", "arch2"),
    selected={"knee": "arch1"},
    limits=(Limit.parse("latency<=20"),),
    references={"uniform 8 bit at 256": evaluation(9, iou=0.7, latency=40.0)},
    baselines={"random search": (evaluation(8, iou=0.6, latency=50.0),)},
    hypervolume=(HypervolumeTrace(label="NSGA-II", evaluations=(2, 4), values=(0.1, 0.3)),),
    reference_point={"iou": 0.0, "latency": 2000.0},
    genes=SPACE.genes,
    rescorings=(
        Rescoring(
            name="iou_boxes",
            unit="",
            direction="max",
            note="125 nuclei",
            values={"arch1": (0.8123, 0.0131), "arch2": (0.5, None)},
        ),
    ),
    device_figures=(
        DeviceFigure(name="bandwidth", value="204.8 GB/s", status="recalled", source="memory"),
    ),
    seeds={"search": 7},
    versions={"hwnas": "0.1.0"},
)


@pytest.fixture
def make_data() -> Callable[..., ReportData]:
    """The run above with some fields replaced."""

    def make(**changes: Any) -> ReportData:
        return replace(DATA, **changes)

    return make


@pytest.fixture
def costs() -> dict[str, ReportedCost]:
    return {cost.name: cost for cost in (IOU, LATENCY, SIZE, BITOPS)}
