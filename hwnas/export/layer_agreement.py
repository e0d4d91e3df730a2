"""Where torch and ONNX Runtime part: the codes of every layer's input, each by itself.

Torch runs each block on what ONNX Runtime gave to it, and each layer in it on the codes that ONNX
Runtime multiplied, so that differences do not add up. Rounding of float32 sums moves a value over
the border between two codes now and then: a few codes of a layer differ, by one. (Of the layer
behind it, which sees the whole token move, hundreds would, hence the codes from there.) An error
in a layer shows as many codes, or far ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from hwnas.export.layer_codes import CENTER
from hwnas.quant.linear import ActivationGrid
from hwnas.supernet.encoder_layers import Apply
from hwnas.supernet.encoder_view import BlockView, EncoderView
from hwnas.supernet.subnet import Subnet
from hwnas.supernet.windows import merge_windows, split_windows

__all__ = ["LayerAgreement", "compare_layers", "first_parting"]

Array = NDArray[Any]
_LINEARS = ("qkv", "proj", "lin1", "lin2")
_NECK = ("neck/linear", "neck/conv", "embedding")
_MANY = 0.01  # of a layer's codes; rounding moves less than a tenth of that
_WIDE = 1e-3  # of the norm of an output; rounding moves less than a tenth of that


@dataclass(frozen=True, slots=True)
class LayerAgreement:
    """One layer: share of input codes that differ and the largest difference between two codes.

    For the output of a block or of the whole (`codes` 0) `error` is |a - b| / |a|; else 0.
    """

    name: str
    codes: int
    differing: float
    largest: int
    error: float

    @property
    def parts(self) -> bool:
        """Whether rounding does not explain it."""
        return self.differing > _MANY or self.error > _WIDE

    def __str__(self) -> str:
        """One clause for people."""
        if not self.codes:
            return f"{self.name}: relative error {self.error:.2g}"
        return (
            f"{self.name}: {100 * self.differing:.2g} % of {self.codes} input codes differ, by up "
            f"to {self.largest}"
        )


def first_parting(layers: Sequence[LayerAgreement]) -> LayerAgreement | None:
    """The first layer that rounding does not explain."""
    return next((layer for layer in layers if layer.parts), None)


def compare_layers(
    subnet: Subnet, model: Path | onnx.ModelProto, image: torch.Tensor
) -> list[LayerAgreement]:
    """Compare every layer on one normalized image (1, 3, R, R), first layer first."""
    recorder = _Recorder(subnet.view(), subnet.plan.resolution)
    blocks = [f"blocks/{block.index}" for block in subnet.view().blocks]
    found = _run(model, image, [*recorder.inputs(), *blocks, "embedding"])
    recorder.follow(found)
    view = recorder.view
    with torch.no_grad():
        x, outputs = view.tokens(image), {}
        for place, name in enumerate(blocks):
            outputs[name] = view.block(place, x)
            x = torch.from_numpy(found[name]).view_as(outputs[name])
        outputs["embedding"] = view.neck(x)
    layers = []
    for name, codes in recorder.codes().items():
        theirs = found[name]
        if theirs.shape[-1] == 9 * codes.shape[-1]:  # the columns of a convolution: its center
            theirs = theirs[..., 4 * codes.shape[-1] : 5 * codes.shape[-1]]
        gap = np.abs(codes.astype(np.int32).ravel() - theirs.astype(np.int32).ravel())
        layers.append(LayerAgreement(name, gap.size, float((gap > 0).mean()), int(gap.max()), 0.0))
    layers += [_output(name, ours.numpy(), found[name]) for name, ours in outputs.items()]
    return sorted(layers, key=lambda layer: _place(layer.name))


def _output(name: str, ours: Array, theirs: Array) -> LayerAgreement:
    gap = float(np.linalg.norm(ours.ravel() - theirs.ravel()))
    return LayerAgreement(name, 0, 0.0, 0, gap / max(float(np.linalg.norm(ours)), 1e-12))


@dataclass
class _Recorded:
    """A layer that remembers the codes of its inputs and goes on from `theirs` (T, C)."""

    layer: Apply
    grid: ActivationGrid
    seen: list[Array] = field(default_factory=list)
    theirs: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        codes = self.grid.codes(x, center=CENTER).to(torch.int8)
        done = sum(map(len, self.seen))
        self.seen.append(codes.reshape(-1, codes.shape[-1]).numpy())
        if self.theirs is not None:
            part = self.theirs[done : done + len(self.seen[-1])].float() + CENTER
            x = (part * self.grid.scale + self.grid.offset).view_as(x)
        return self.layer(x)


class _Recorder:
    """A view whose quantized layers and blocks are recorded, under the names of the graph."""

    def __init__(self, view: EncoderView, resolution: int) -> None:
        self._layers: dict[str, tuple[_Recorded, int, int]] = {}
        grid = resolution // view.patch
        patch = self._recorded("patch_embed", view.patch_embed)
        blocks = []
        for place, block in enumerate(view.blocks):
            grid = grid // 2 if place == view.pool_before else grid
            blocks.append(self._block(block, grid))
        self.view = replace(
            view, patch_embed=patch, blocks=tuple(blocks),
            neck_linear=self._recorded("neck/linear", view.neck_linear),
            neck_conv=self._recorded("neck/conv", view.neck_conv),
        )  # fmt: skip

    def _block(self, block: BlockView, grid: int) -> BlockView:
        name = f"blocks/{block.index}"
        changed = {
            part: self._recorded(
                f"{name}/{part}", getattr(block, part), block.window if part in _LINEARS[:2] else 0,
                grid,
            )
            for part in _LINEARS
        }  # fmt: skip
        return replace(block, **changed)

    def _recorded(self, name: str, layer: Any, window: int = 0, grid: int = 0) -> Any:
        found = getattr(layer, "grid", None)
        if found is None:
            return layer
        recorded = _Recorded(layer, found)
        self._layers[name] = recorded, window, grid
        return recorded

    def inputs(self) -> list[str]:
        """Names in the graph that may hold the codes of a layer's input."""
        return [f"{name}/{word}" for name in self._layers for word in ("codes", "moved")]

    def follow(self, found: dict[str, Array]) -> None:
        """Have the layers of the blocks go on from these codes, in the order of their calls."""
        for name, (recorded, window, grid) in self._layers.items():
            if not name.startswith("blocks/"):
                continue
            theirs = torch.from_numpy(found[name])
            theirs = theirs.reshape(-1, theirs.shape[-1])
            if window:
                padded = -(-grid // window) * window
                whole = theirs.view(1, padded, padded, -1)
                theirs = split_windows(whole, window).reshape(-1, theirs.shape[-1])
            recorded.theirs = theirs

    def codes(self) -> dict[str, Array]:
        """Codes (T, C) of each layer in the reading order of the map."""
        found = {}
        for name, (recorded, window, grid) in self._layers.items():
            codes = np.concatenate(recorded.seen)
            if window:
                padded = -(-grid // window) * window
                cut = torch.from_numpy(codes).view(-1, window**2, codes.shape[-1])
                codes = merge_windows(cut, window, padded).reshape(-1, codes.shape[-1]).numpy()
            found[name] = codes
        return found


def _place(name: str) -> tuple[int, int, int]:
    """The place of a layer in the network."""
    if not name.startswith("blocks/"):
        return (0, 0, 0) if name == "patch_embed" else (2, _NECK.index(name), 0)
    _, index, *part = name.split("/")
    return 1, int(index), _LINEARS.index(part[0]) if part else len(_LINEARS)


def _run(model: Path | onnx.ModelProto, image: torch.Tensor, names: list[str]) -> dict[str, Array]:
    """Values of a graph by layer; a layer's codes are those that it multiplies."""
    import onnxruntime

    opened = onnx.load(str(model)) if isinstance(model, Path) else model
    loud = onnx.ModelProto()
    loud.CopyFrom(opened)
    made = {output for node in loud.graph.node for output in node.output}
    wanted = [name for name in names if name in made and name != "embedding"]
    for name in wanted:
        kind = TensorProto.INT8 if name.endswith(("/codes", "/moved")) else TensorProto.FLOAT
        loud.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(loud.SerializeToString(), options)
    values = session.run([*wanted, "embedding"], {"image": image.numpy()})
    found: dict[str, Array] = {}
    for name, value in zip([*wanted, "embedding"], values, strict=True):
        layer = name.removesuffix("/codes").removesuffix("/moved")
        if layer == "neck/conv" and name.endswith("/moved"):
            continue  # nine times as many as the map has
        found[layer] = value
    return found
