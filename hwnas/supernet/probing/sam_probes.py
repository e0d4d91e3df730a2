"""Probes of the subnets of a SAM supernet.

The encoder alone is probed. The prompt encoder and the mask decoder are the supernet's own, as
they are, behind a fresh encoder too; the loss is the one of training, on real masks.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import nn

from hwnas.config.training import BatchConfig, TrainConfig
from hwnas.data.labeled import LabeledImage
from hwnas.errors import CostError
from hwnas.space import Arch
from hwnas.supernet.probing.probe import BatchSize, Probe, ProbedBatch, Weights
from hwnas.supernet.probing.sam_batches import class_batch, draw_pictures, prompt_batch
from hwnas.supernet.probing.sam_encoder import ProbedEncoder
from hwnas.supernet.probing.weight_laws import draw_weights
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.semantic import classes_of
from hwnas.supernet.sensitivity import in_float
from hwnas.supernet.tensor_cache import TensorCache
from hwnas.supernet.training.elastic.semantic_task import task_of

__all__ = ["SamProbes"]

_CACHE_BYTES = 1 << 28  # batches of past resolutions
_CHANNELS = 3


class SamProbes:
    """Makes probes of a SAM supernet with prompts or with a semantic head; it stays as it is.

    Bits are off in a probe, so archs that differ in nothing else are one network.
    """

    def __init__(self, supernet: SamSupernet) -> None:
        self._supernet = supernet
        self._head = _frozen_head(supernet.sam)
        self._classes = classes_of(supernet.sam)
        task: Literal["promptable", "semantic"]
        task = "promptable" if self._classes is None else "semantic"
        batch = BatchConfig(resolution=supernet.geometry.image_size, share=1, images=1)
        # Of the recipe the losses alone are used; a teacher has no part in them.
        self._task = task_of(TrainConfig(task=task, batches=(batch,), teacher="in-place"))
        self._batches = TensorCache(max_bytes=_CACHE_BYTES)

    def probe_id(self, arch: Arch) -> str:
        """The network of an arch in floating point."""
        plan = in_float(self._supernet.plan(arch))
        return hashlib.sha256(repr(plan).encode()).hexdigest()

    def probe(self, arch: Arch, *, weights: Weights, seed: int) -> Probe:
        """The encoder of an arch with slices of the supernet's weights, adapters merged, or fresh.

        Fresh: matrices and kernels by Kaiming's law, norms and tables as before any training.
        """
        plan = in_float(self._supernet.plan(arch))
        with torch.no_grad():
            encoder = ProbedEncoder(self._supernet.encoder.view(plan)).to(self._device)
        if weights == "fresh":
            draw_weights(encoder, seed)
            encoder.forget_tables()

        def loss(batch: Any) -> torch.Tensor:
            prediction = self._task.predict(self._head, encoder(batch.images), batch)
            return self._task.loss(prediction, batch)["loss"]

        return Probe(
            encoder, (_CHANNELS, plan.resolution, plan.resolution), encoder.layers(), loss,
            activations=encoder.activations, average_attention=encoder.average_attention,
        )  # fmt: skip

    def probe_batches(self, arch: Arch, data: Any, size: BatchSize) -> Sequence[ProbedBatch]:
        """Batches at the resolution of an arch."""
        resolution = self._supernet.resolution(arch)
        found: Sequence[ProbedBatch] = self._batches.get(
            (resolution, size), lambda: self._draw(data, size, resolution)
        )
        return found

    def _draw(
        self, images: Sequence[LabeledImage], size: BatchSize, resolution: int
    ) -> tuple[ProbedBatch, ...]:
        side = self._supernet.geometry.image_size
        prompted = self._classes is None
        self._check_classes(images)
        pictures = draw_pictures(images, size, side, objects=prompted)
        make = prompt_batch if prompted else class_batch
        groups = (
            pictures[i : i + size.images] for i in range(0, len(pictures), size.images)
        )  # fmt: skip
        return tuple(make(group, resolution).to(self._device) for group in groups)

    def _check_classes(self, images: Sequence[LabeledImage]) -> None:
        wrong = [image for image in images if self._classes not in (None, image.classes)]
        if wrong:
            raise CostError(
                f"{wrong[0].name}: the data has the classes {', '.join(wrong[0].classes)}, the "
                f"model {', '.join(self._classes or ())}; give data of the same classes file"
            )

    @property
    def _device(self) -> torch.device:
        device: torch.device = self._supernet.sam.image_encoder.patch_embed.proj.weight.device
        return device


@torch.no_grad()
def _frozen_head(sam: Any) -> Any:
    """A copy of what decodes an embedding, as far as losses read it.

    A supernet that was loaded in inference mode has tensors that no gradient can pass.
    """
    parts = {}
    for name in ("prompt_encoder", "mask_decoder"):
        module = getattr(sam, name)
        tensors: dict[int, Any] = {id(t): t.clone() for t in module.buffers()}
        for parameter in module.parameters():
            tensors[id(parameter)] = nn.Parameter(parameter.clone(), requires_grad=False)
        parts[name] = copy.deepcopy(module, tensors)  # it finds the copies of tensors there
    return SimpleNamespace(geometry=sam.geometry, **parts)
