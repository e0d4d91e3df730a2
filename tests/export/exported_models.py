"""Small subnets for the tests of this folder, and what runs an ONNX graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.workload.sam_plan import BlockPlan, EncoderPlan
from tests.supernet.elastic_models import TINY, calibrated, smooth_images


def integer_plan(resolution: int = 128, **changes: Any) -> EncoderPlan:
    """All bit-widths, padded windows (3 on a grid of 8), global blocks, one in float attention."""
    blocks = (
        BlockPlan(0, 3, 192, (8, 8, 8, 8), (8, 8, 8, 8), 8),
        BlockPlan(1, 2, 96, (4, 8, 3, 4), (8, 4, 8, 6), 8),
        BlockPlan(2, 1, 144, (2, 4, 8, 6), (8, 8, 3, 4), 4),
        BlockPlan(3, 3, 192, (3, 8, 4, 8), (2, 8, 8, 8), 32),
    )
    return EncoderPlan(TINY, resolution, blocks, **changes)


def float_plan(resolution: int = 128) -> EncoderPlan:
    return EncoderPlan.uniform(TINY, resolution=resolution)


def tiny_supernet() -> SamSupernet:
    return calibrated()


def image_of(resolution: int) -> torch.Tensor:
    """A normalized image (1, 3, R, R)."""
    return next(i for i in smooth_images() if i.shape[-1] == resolution)[None]


def run_onnx(model: Any, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Outputs of a graph in ONNX Runtime."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    found: list[NDArray[Any]] = session.run(None, feed)
    return found


def relative(a: NDArray[Any], b: NDArray[Any]) -> float:
    """|a - b| / |b|."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))
