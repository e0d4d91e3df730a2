"""Weights of a DINOv2-layout backbone out of an ONNX file.

Exporters keep the names of biases, norms and tables, and rename the weights of linear layers that
they turn into `MatMul` (transposed, under a made-up name). The bias that is added to such a
product gives the name back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from hwnas.errors import CheckpointError

__all__ = ["read_initializers"]


def read_initializers(path: Path) -> dict[str, torch.Tensor]:
    """All named tensors of an ONNX file; matrix products get the name that their bias has.

    Raises CheckpointError for an unreadable file, and where the `onnx` package is missing.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError as error:
        raise CheckpointError(
            f"{path}: reading ONNX needs the onnx package; pip install 'hwnas[onnx]'"
        ) from error
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected an .onnx backbone")
    try:
        graph = onnx.load(str(path)).graph
    except Exception as error:  # protobuf's own exception types differ between its back ends
        raise CheckpointError(
            f"{path}: cannot be read as ONNX ({type(error).__name__}); the file may be "
            "truncated: copy or download it again"
        ) from error
    # np.array copies: the buffers of a protobuf are read-only
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    return {**tensors, **_linear_weights(graph, tensors)}


def _linear_weights(graph: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    found = {}
    for node in graph.node:
        if node.op_type != "MatMul":
            continue
        matrix = next((n for n in node.input if n in tensors and tensors[n].ndim == 2), None)
        if matrix is None:
            continue
        for add in (n for n in users.get(node.output[0], ()) if n.op_type == "Add"):
            for bias in (n for n in add.input if n in tensors and n.endswith(".bias")):
                found[bias.removesuffix("bias") + "weight"] = tensors[matrix].T.contiguous()
    return found
