"""The ONNX files of a deploy folder, and what ONNX Runtime makes of them."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx

from hwnas.errors import ConfigError
from hwnas.export.onnx_decoder import decoder_model
from hwnas.export.onnx_encoder import encoder_model
from hwnas.export.onnx_layers import GraphStyle, WeightStorage
from hwnas.records.files import replace_bytes
from hwnas.supernet.subnet import Subnet

__all__ = ["fused_products", "require_onnxruntime", "save_onnx"]

_PRODUCTS = (
    "MatMulIntegerToFloat", "QLinearMatMul", "MatMulInteger", "DynamicQuantizeMatMul", "QGemm",
    "MatMul", "FusedMatMul", "Gemm",
)  # fmt: skip


def save_onnx(
    subnet: Subnet, sam: Any, folder: Path, *, style: GraphStyle = "onnxruntime",
    storage: WeightStorage = "int8", notes: dict[str, str] | None = None,
) -> tuple[Path, Path]:  # fmt: skip
    """Write encoder.onnx and decoder.onnx.

    Raises:
        ConfigError: a layer or a decoder that cannot be exported.
        RunError: they cannot be written.
    """
    encoder, decoder = folder / "encoder.onnx", folder / "decoder.onnx"
    model = encoder_model(subnet, style=style, storage=storage, notes=notes)
    replace_bytes(encoder, model.SerializeToString())
    model = decoder_model(sam, subnet.plan.resolution, notes=notes)
    replace_bytes(decoder, model.SerializeToString())
    return encoder, decoder


def require_onnxruntime() -> str:
    """The version of ONNX Runtime.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "--format onnx is verified in ONNX Runtime, which is not installed; "
            "pip install 'hwnas[onnx]', or export --format torch alone"
        ) from error
    return str(onnxruntime.__version__)


def fused_products(path: Path) -> dict[str, int]:
    """How often each kind of product is left in a graph that ONNX Runtime has optimized."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(optimized)
        options.log_severity_level = 3  # it warns that such a file fits this machine only
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(str(optimized)).graph.node
    counts = Counter(node.op_type for node in nodes)
    return {name: counts[name] for name in _PRODUCTS if counts[name]}
