"""Heat maps: which places of an image the masks of some prompts rest on.

`grad-cam`: with activations A_k (h, w) of one layer and a score S, the weight of a channel is the
mean of its gradient over places, alpha_k = mean_ij dS / dA_k,ij, and the map is
ReLU(sum_k alpha_k A_k). A mask depends on few places, so this mean can be dominated by all the
others, and the map be zero or hot elsewhere. `hires-cam` weighs each place by its own gradient,
ReLU(sum_k dS / dA_k A_k): where S does not depend on a place, the map is zero there.

Sources: Grad-CAM (Selvaraju et al., ICCV 2017), there for the score of a class; HiResCAM (Draelos
and Carin, 2020), whose maps they do not cut at zero. For masks the score is the sum of the logit
over the pixels of a mask, as in Seg-Grad-CAM (Vinogradova et al., AAAI 2020); we sum over several
prompts as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from hwnas.adapters import WeightAdapter
from hwnas.data.prompts import Prompts
from hwnas.data.transforms import fit_size, postprocess, preprocess
from hwnas.errors import ConfigError, DataError
from hwnas.supernet.cut_encoder import EMBEDDING, CutEncoder
from hwnas.supernet.decoder import decode
from hwnas.supernet.elastic_encoder import ElasticEncoder
from hwnas.supernet.evaluation import PromptKind, embed_in_pixels
from hwnas.supernet.prompting import EmbeddedPrompts
from hwnas.supernet.semantic import classes_of

__all__ = ["HEAT_METHODS", "HeatMap", "HeatMethod", "heat_map"]

HeatMethod = Literal["grad-cam", "hires-cam"]
HEAT_METHODS: tuple[HeatMethod, ...] = ("grad-cam", "hires-cam")

_CHUNK_BYTES = 8 << 20  # of image tokens decoded at a time; backward keeps some 30 times as much


@dataclass(frozen=True, slots=True, eq=False)
class HeatMap:
    """A map (H, W) float32, not negative and in no unit, and the predicted masks (n, H, W) bool."""

    values: NDArray[np.float32]
    masks: NDArray[np.bool_]


def heat_map(
    encoder: CutEncoder, image: NDArray[np.uint8], prompts: Prompts, *, resolution: int,
    prompt: PromptKind = "box", layer: str = EMBEDDING, masks: NDArray[np.bool_] | None = None,
    method: HeatMethod = "grad-cam",
) -> HeatMap:  # fmt: skip
    """Where a layer's activations raise the mask logits of n prompts.

    The score is the sum over prompts of the logits, at the size of the image, over the pixels of
    the predicted masks, or of `masks` (n, H, W). Where all of these are empty the map is zero.
    Weights, gradients, modes and random state are as before afterwards.

    Args:
        encoder: See `cut_encoder`.
        image: (H, W, 3) uint8.
        prompts: Boxes and points in pixels of the image.
        resolution: Side of the network's input; a subnet takes its own alone.
        prompt: Which of the two to prompt with.
        layer: `embedding`, or a block such as `blocks.3`.
        masks: Where to look at the logits, if not within the predicted masks.
        method: How gradients weigh activations, see the top of this file.

    Raises:
        ConfigError: there is no such layer or method, or the model takes no prompts.
        DataError: there is no prompt, or `masks` do not fit.
    """
    size = (image.shape[0], image.shape[1])
    _check(encoder.sam, prompts, masks, size)
    if method not in HEAT_METHODS:
        raise ConfigError(f"heat map {method!r}: expected {' or '.join(HEAT_METHODS)}")
    device = next(encoder.sam.mask_decoder.parameters()).device
    with torch.inference_mode(False), ExitStack() as stack:
        for module in encoder.modules:
            stack.enter_context(_undisturbed(module, device))
        found = encoder.before(preprocess(image, resolution)[None].to(device), layer)
        with torch.enable_grad():
            activation = found.detach().clone().requires_grad_()  # an inference tensor takes none
            embedding = encoder.after(activation, layer)
            cut = embedding.detach().clone().requires_grad_()
            read = embed_in_pixels(encoder.sam, prompts, size, resolution, [prompt], device)
            wanted = None if masks is None else torch.from_numpy(masks).to(device)
            gradient, predicted = _score_gradient(encoder.sam, cut, read, size, wanted)
            (slope,) = torch.autograd.grad(embedding, activation, gradient)
        weights = slope.mean(dim=(2, 3), keepdim=True) if method == "grad-cam" else slope
        values = functional.relu((weights * activation.detach()).sum(dim=1, keepdim=True))
        drawn = _at_size(values, size, resolution)
    return HeatMap(drawn.float().cpu().numpy(), predicted.cpu().numpy())


def _score_gradient(
    sam: Any, embedding: torch.Tensor, prompts: EmbeddedPrompts, size: tuple[int, int],
    masks: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Gradient (1, 256, g, g) of the score at an embedding, and the predicted masks (n, H, W).

    Prompts are decoded some at a time: the score is a sum, and so is its gradient.
    """
    total, found = torch.zeros_like(embedding), []
    step = max(1, _CHUNK_BYTES // (embedding.numel() * embedding.element_size()))
    for start in range(0, len(prompts.sparse), step):
        rows = slice(start, start + step)
        boxes = None if prompts.boxes is None else prompts.boxes[None, rows]
        part = EmbeddedPrompts(prompts.sparse[None, rows], boxes)
        dense = part.dense(sam, embedding.shape[-1])
        logits = decode(sam, embedding, part.sparse, dense=dense)[0][0, :, 0]
        logits = postprocess(logits, size)  # (rows, H, W)
        found.append(logits.detach() > 0)
        inside = found[-1] if masks is None else masks[rows]
        (gradient,) = torch.autograd.grad(logits[inside].sum(), embedding)
        total += gradient
    return total, torch.cat(found)


def _at_size(values: torch.Tensor, size: tuple[int, int], resolution: int) -> torch.Tensor:
    """A map (1, 1, h, w) of the padded input at the size of the image (H, W), bilinear."""
    height, width = fit_size(*size, resolution)
    full = functional.interpolate(
        values, (resolution, resolution), mode="bilinear", align_corners=False
    )[..., :height, :width]
    if (height, width) != size:
        full = functional.interpolate(full, size, mode="bilinear", align_corners=False)
    return full[0, 0]


@contextmanager
def _undisturbed(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Let a module run in eval mode on one image, and leave it as it was.

    Flags are set one by one: `eval()` of an elastic encoder drops its prepared weights, which only
    those that are being trained must lose.
    """
    modes = [(part, part.training) for part in module.modules()]
    elastic = [part for part, on in modes if on and isinstance(part, ElasticEncoder)]
    told = [(a, a.images) for a, _ in modes if isinstance(a, WeightAdapter) and _counts(a)]
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            for part, _ in modes:
                part.training = False
            for adapter, _ in told:
                adapter.images = 1  # type: ignore[assignment]
            for part in elastic:
                part.forget()
            yield
        finally:
            for part in elastic:
                part.forget()
            for adapter, images in told:
                adapter.images = images
            for part, on in modes:
                part.training = on


def _counts(adapter: WeightAdapter) -> bool:
    """Whether an adapter is told how many images it sees (`AttachedStudent.embed`)."""
    return hasattr(adapter, "images")


def _check(
    sam: Any, prompts: Prompts, masks: NDArray[np.bool_] | None, size: tuple[int, int]
) -> None:
    classes, count = classes_of(sam), len(prompts.ids)
    if classes is not None:
        raise ConfigError(
            f"this model segments the classes {', '.join(classes)} without prompts; heat maps are "
            "of masks for prompts"
        )
    if not count:
        raise DataError("no prompt; give boxes or points of at least one object")
    if masks is not None and (masks.shape != (count, *size) or masks.dtype != np.bool_):
        raise DataError(
            f"masks are {masks.dtype} {masks.shape}; expected bool {(count, *size)}, one of the "
            "image's size for each prompt"
        )
