"""Turn a plain DINOv2-layout vision transformer into a `segment_anything` image encoder.

What changes: the patch embedding goes from 14 to 16 pixels (FlexiViT, Beyer et al. 2023, section
3.4: the pseudo-inverse of the resize), the position table from 37 x 37 to the geometry's grid
(bicubic), LayerScale is folded into the layers before it, the class token is dropped, relative
positions are zero. What is lost is measured (`agreement.py`), not assumed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from hwnas.errors import CheckpointError
from hwnas.supernet.checkpoint import load_weights, read_tensors
from hwnas.supernet.packing import half
from hwnas.supernet.sam_model import position_table

if TYPE_CHECKING:
    from hwnas.workload.sam_geometry import SamGeometry

__all__ = [
    "convert_encoder",
    "depth_of",
    "fold_final_norm",
    "load_converted",
    "load_head",
    "read_dinov2",
    "resize_patch_embedding",
    "square_table",
]

_BLOCK = {
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "attn.qkv.weight": "attn.qkv.weight",
    "attn.qkv.bias": "attn.qkv.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "mlp.fc1.weight": "mlp.lin1.weight",
    "mlp.fc1.bias": "mlp.lin1.bias",
}
_SCALED = {"attn.proj": ("attn.proj", "ls1.gamma"), "mlp.fc2": ("mlp.lin2", "ls2.gamma")}


def read_dinov2(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a DINOv2-layout backbone from `.safetensors[.gz]`, `.pth` or `.onnx`, as float32.

    Values are rounded to float16 (but for tensors that float16 cannot hold): the same backbone is
    published in float32 and in float16, adapters belong to the hash of the model that is made of
    it, and the hash must not depend on the file. What is float16 already does not change. Of an
    ONNX file the initializers are taken: by their names where these follow the layout, after a
    common prefix is cut. Raises CheckpointError with all keys that are missing.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        from hwnas.supernet.onnx_weights import read_initializers

        weights = read_initializers(path)
    else:
        weights = read_tensors(path)
    weights = {key: half(value).float() for key, value in _without_prefix(weights).items()}
    missing = [key for key in _expected_keys(weights) if key not in weights]
    if missing:
        raise CheckpointError(
            f"{path} is not of the DINOv2 layout: {len(missing)} keys are missing\n  "
            + "\n  ".join(missing)
            + "\nexpected a ViT backbone with LayerScale and a class token"
        )
    return weights


def convert_encoder(
    weights: dict[str, torch.Tensor], geometry: SamGeometry
) -> dict[str, torch.Tensor]:
    """The `image_encoder.` state of `geometry`, without the neck, keys without that prefix."""
    _check_shape(weights, geometry)
    grid, head_dim = geometry.grid(geometry.image_size), geometry.head_dim
    converted = {
        "patch_embed.proj.weight": resize_patch_embedding(
            weights["patch_embed.proj.weight"], geometry.patch
        ),
        "patch_embed.proj.bias": weights["patch_embed.proj.bias"],
        # in float64, whose rounding to float32 is the same whatever vector code a processor has
        "pos_embed": position_table(
            square_table(weights["pos_embed"][:, 1:]).double(), grid
        ).float(),
    }
    for i in range(geometry.depth):
        old, new = f"blocks.{i}.", f"blocks.{i}."
        for source, target in _BLOCK.items():
            converted[new + target] = weights[old + source]
        for source, (target, gamma) in _SCALED.items():
            scale = weights[old + gamma]
            converted[f"{new}{target}.weight"] = weights[f"{old}{source}.weight"] * scale[:, None]
            converted[f"{new}{target}.bias"] = weights[f"{old}{source}.bias"] * scale
        side = geometry.window_of(i) or grid
        for axis in ("h", "w"):
            converted[f"{new}attn.rel_pos_{axis}"] = torch.zeros(2 * side - 1, head_dim)
    return {key: value.contiguous() for key, value in converted.items()}


def load_converted(sam: Any, converted: dict[str, torch.Tensor], *, source: str) -> None:
    """Load a converted encoder into `sam`, which keeps its own neck."""
    neck = {k: v for k, v in sam.image_encoder.state_dict().items() if k.startswith("neck.")}
    load_weights(sam.image_encoder, {**converted, **neck}, source=source)


def load_head(sam: Any, path: Path) -> None:
    """Load neck, prompt encoder and mask decoder from a file that holds these and no more."""
    head = read_tensors(path)
    encoder = {
        key: value
        for key, value in sam.state_dict().items()
        if key.startswith("image_encoder.") and not key.startswith("image_encoder.neck.")
    }
    doubled = sorted(encoder.keys() & head.keys())
    if doubled:
        raise CheckpointError(
            f"{path} holds encoder weights ({doubled[0]}, ...); expected a head only: "
            "neck, prompt encoder and mask decoder"
        )
    load_weights(sam, {**encoder, **head}, source=str(path))


def resize_patch_embedding(kernel: torch.Tensor, patch: int) -> torch.Tensor:
    """Resize a patch embedding (C, 3, p, p) to (C, 3, patch, patch).

    With B the bilinear resize of a p-pixel patch as a matrix, the new kernel is pinv(B)^T w:
    for growing patches the new embedding of a resized patch equals the old one of the original.
    """
    old = kernel.shape[-1]
    if old == patch:
        return kernel
    basis = torch.eye(old * old, dtype=torch.float64).reshape(old * old, 1, old, old)
    resized = functional.interpolate(
        basis, (patch, patch), mode="bilinear", align_corners=False, antialias=False
    )
    matrix = resized.reshape(old * old, patch * patch).T  # (new pixels, old pixels)
    flat = kernel.double().reshape(*kernel.shape[:2], -1)
    new: torch.Tensor = flat @ torch.linalg.pinv(matrix)
    return new.reshape(*kernel.shape[:2], patch, patch).float()


def fold_final_norm(neck_kernel: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """Fold a LayerNorm without bias into the 1 x 1 convolution that follows it.

    W diag(gain) (I - 1/C), for a kernel (256, C, 1, 1). The division by the token's standard
    deviation is left out: the neck's LayerNorm2d right after the convolution cancels it.
    """
    scaled = neck_kernel[:, :, 0, 0] * gain
    return (scaled - scaled.mean(dim=1, keepdim=True))[:, :, None, None]


def square_table(table: torch.Tensor) -> torch.Tensor:
    """A position table (1, n·n, C) as (1, n, n, C)."""
    side = math.isqrt(table.shape[1])
    return table.reshape(1, side, side, -1)


def depth_of(weights: dict[str, torch.Tensor]) -> int:
    """How many blocks a DINOv2-layout backbone has."""
    return 1 + max(int(k.split(".")[1]) for k in weights if k.startswith("blocks."))


def _without_prefix(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    anchor = "patch_embed.proj.weight"
    prefix = next((k.removesuffix(anchor) for k in weights if k.endswith(anchor)), "")
    return {k.removeprefix(prefix): v for k, v in weights.items()}


def _expected_keys(weights: dict[str, torch.Tensor]) -> list[str]:
    keys = ["cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"]
    keys += ["norm.weight", "norm.bias"]
    has_blocks = any(k.startswith("blocks.") for k in weights)
    for i in range(depth_of(weights) if has_blocks else 1):
        keys += [f"blocks.{i}.{k}" for k in _BLOCK]
        for layer, (_, gamma) in _SCALED.items():
            keys += [f"blocks.{i}.{layer}.weight", f"blocks.{i}.{layer}.bias"]
            keys.append(f"blocks.{i}.{gamma}")
    return keys


def _check_shape(weights: dict[str, torch.Tensor], geometry: SamGeometry) -> None:
    dim = weights["pos_embed"].shape[-1]
    hidden = weights["blocks.0.mlp.fc1.weight"].shape[0]
    found = (dim, depth_of(weights), hidden)
    wanted = (geometry.dim, geometry.depth, geometry.mlp_hidden)
    if found != wanted:
        raise CheckpointError(
            f"the backbone has width, depth, MLP width {found}, {geometry.name} needs {wanted}; "
            "convert it to a model of its own size"
        )
