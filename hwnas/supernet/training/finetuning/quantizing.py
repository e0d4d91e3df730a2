"""Quantizers for the layers of a plain model: grids from weights and from images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from hwnas.adapters import LayerQuantizer
from hwnas.config.finetuning import QuantizerConfig
from hwnas.supernet.training.finetuning.attached_student import AttachedStudent

__all__ = ["add_quantizers", "sampled_inputs"]

_VALUES = 8192  # kept of each layer's input of each image, beside the extremes


@torch.no_grad()
def add_quantizers(
    student: AttachedStudent, images: Sequence[torch.Tensor], config: QuantizerConfig, *, seed: int
) -> None:
    """Give every layer of a fresh student a quantizer of the recipe's bits.

    `images` are normalized inputs (3, R, R). Grids have the least squared error: of weights by
    channel, of inputs over a sample of the values that the model in floating point sees.
    """
    values = sampled_inputs(student, images, seed=seed)
    for path, layer in student.layers.items():
        layer.quantizer = LayerQuantizer.of(
            layer.weight.cpu(), values[path].cpu(), config.w_bits, config.a_bits,
            learned=config.learned,
        ).to(layer.weight.device)  # fmt: skip


@torch.no_grad()
def sampled_inputs(
    student: AttachedStudent, images: Sequence[torch.Tensor], *, seed: int
) -> dict[str, torch.Tensor]:
    """A sample (n,) of the values that flow into each layer, and the extremes among them."""
    rng = torch.Generator().manual_seed(seed)
    parts: dict[str, list[torch.Tensor]] = {path: [] for path in student.layers}

    def keep(path: str, x: torch.Tensor) -> None:
        flat = x.detach().reshape(-1).float().cpu()
        drawn = flat[torch.randint(len(flat), (min(_VALUES, len(flat)),), generator=rng)]
        parts[path] += [drawn, torch.stack([flat.amin(), flat.amax()])]

    modes = {module: module.training for module in student.modules()}
    student.eval()
    handles = [_watched(layer, path, keep) for path, layer in student.layers.items()]
    try:
        for image in images:
            student.embed(image[None])
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    return {path: torch.cat(found) for path, found in parts.items()}


def _watched(
    layer: nn.Module, path: str, keep: Callable[[str, torch.Tensor], None]
) -> RemovableHandle:
    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        del module
        keep(path, inputs[0])

    return layer.register_forward_pre_hook(look)
