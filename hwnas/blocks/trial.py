"""Networks of blocks, run as they are: the noise of their embeddings, and their IoU."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch

from hwnas.blocks.library import NetworkRecord
from hwnas.blocks.options import teacher_option
from hwnas.blocks.slot import SlotModule
from hwnas.blocks.stitching import StitchedSupernet
from hwnas.blocks.teacher import slot_ends, teacher_pass
from hwnas.blocks.tuning import Targets, tune_network
from hwnas.data.labeled import LabeledImage
from hwnas.data.scores import mean_of_images
from hwnas.data.transforms import preprocess
from hwnas.supernet.distortion import ChannelNoise, valid_part
from hwnas.supernet.evaluation import Evaluator
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["Trial"]

_PROMPTS = 32  # objects of an image


@dataclass(frozen=True, eq=False)
class Trial:
    """A stitched supernet and the images that its networks are judged on.

    With `training`, networks are first trained as a whole for `steps` steps.
    """

    name: str
    net: StitchedSupernet
    images: Sequence[LabeledImage]
    inputs: Sequence[torch.Tensor]
    noise: ChannelNoise
    evaluator: Evaluator | None
    training: Targets | None
    steps: int
    seed: int

    @classmethod
    def of(
        cls, name: str, net: StitchedSupernet, images: Sequence[LabeledImage], *, iou: bool,
        training: Sequence[LabeledImage] = (), steps: int = 0, seed: int = 0,
    ) -> Self:  # fmt: skip
        """Run the teacher; with `iou`, IoU is measured too."""
        side = net.library.resolution
        inputs = [preprocess(image.image, side)[None] for image in images]
        targets = [
            valid_part(net.teacher(x), image.image.shape[:2])
            for x, image in zip(inputs, images, strict=True)
        ]
        evaluator = None
        if iou:
            evaluator = Evaluator.of(
                net.sam, images, prompts=["box"], max_instances=_PROMPTS, seed=seed
            )
        tuned = Targets.of(net, training) if steps else None
        return cls(name, net, images, inputs, ChannelNoise(targets), evaluator, tuned, steps, seed)

    def ratio(self, image: int, embedding: torch.Tensor) -> float:
        """Noise of the embedding (1, C, g, g) of one image."""
        size = self.images[image].image.shape[:2]
        return self.noise.ratio(image, valid_part(embedding, size))

    def network(self, blocks: tuple[str, ...]) -> NetworkRecord:
        """Run one network, trained before where the trial says so."""
        started = time.perf_counter()
        slots = self._slots(blocks)
        return self.judged(blocks, slots, seconds=time.perf_counter() - started)

    @torch.no_grad()
    def judged(
        self, blocks: tuple[str, ...], slots: Sequence[SlotModule], *, seconds: float = 0.0
    ) -> NetworkRecord:
        """Run modules in the slots; `seconds` were spent on them before."""
        started = time.perf_counter()

        def embed(images: torch.Tensor) -> torch.Tensor:
            return self.net.run(images, slots)

        ratios = tuple(self.ratio(place, embed(x)) for place, x in enumerate(self.inputs))
        iou = None
        if self.evaluator is not None:
            scores = self.evaluator.score(embed, self.net.library.resolution)["box"]
            iou = mean_of_images([s.iou for s in scores])[0]
        mean = sum(ratios) / len(ratios)
        seconds = round(seconds + time.perf_counter() - started, 4)
        return NetworkRecord(self.name, blocks, mean, ratios, iou, seconds)

    def _slots(self, blocks: tuple[str, ...]) -> tuple[SlotModule, ...]:
        if self.training is None:
            return self.net.slots(blocks)
        digest = hashlib.sha256(f"{self.seed}/{','.join(blocks)}".encode()).digest()
        seed = int.from_bytes(digest[:8], "big") >> 1
        return tune_network(self.net, blocks, self.training, steps=self.steps, seed=seed)

    @torch.no_grad()
    def replaced(self, keys: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str, float]]:
        """Yield slot, block and noise of the teacher with that block alone replaced.

        What comes before the slot is run once for all of its blocks.
        """
        net, resolution = self.net, self.net.library.resolution
        own = teacher_option(net.geometry).name
        before = teacher_pass(net.whole, self.images, resolution, gradients=False, seed=0).features
        view = net.whole.encoder.view(EncoderPlan.uniform(net.geometry, resolution=resolution))
        ends = slot_ends(net.geometry)
        for slot, block in keys:
            module, ratios = net.slot(slot, block), []
            for image, x in enumerate(before[slot]):
                y = module(x[None])
                for place in range(ends[slot] + 1, ends[-1] + 1):
                    y = view.block(place, y)
                ratios.append(self.ratio(image, view.neck(y)))
            yield slot, block, 0.0 if block == own else sum(ratios) / len(ratios)
