"""Measuring what a study asks for, once each: quality of subnets, noise of single changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hwnas.cost.lowering import lower
from hwnas.data.labeled import LabeledImage
from hwnas.data.scores import mean_of_images, mean_with_error
from hwnas.errors import ConfigError
from hwnas.records import EvaluatedSubnet
from hwnas.space import Arch, SearchSpace
from hwnas.supernet.evaluation import Embed, Evaluator, PromptKind
from hwnas.supernet.sensitivity import ChangeNoise, in_float, zero_embedding
from hwnas.workflows.study.slices import Plan, SingleChange
from hwnas.workflows.study_log import StudyLog
from hwnas.workload.layers import Workload
from hwnas.workload.sam import encoder_layers

__all__ = ["Measured", "Measuring", "Mode", "Protocol", "check_fit"]

Float = NDArray[np.float64]
Mode: TypeAlias = Literal["subnet", "float", "blind"]
"""An arch with its bits, with nothing quantized, or an embedding of zeros in its place."""


@dataclass(frozen=True)
class Protocol:
    """How quality is measured; split and supernet are for the records."""

    split: str | None
    prompt: PromptKind
    max_objects: int
    seed: int
    supernet: str | None


@dataclass(frozen=True)
class Measured:
    """Mean IoU of one network, its standard error, and what the mean is over.

    `scores` are the means of the images, or the objects of a single image.
    """

    iou: float
    error: float | None
    scores: Float

    def loss(self, other: Measured) -> tuple[float, float | None]:
        """Points (0.01 IoU) by which `other` is worse, and the standard error.

        The difference is taken image by image, so that what makes an image easy or hard for both
        does not count.
        """
        mean, error = mean_with_error((100 * (self.scores - other.scores)).tolist())
        return mean, error


class Measuring:
    """Measures with one supernet on one set of images, and remembers in the log.

    `tick` is called after every measurement, and not for what is remembered.
    """

    def __init__(
        self, supernet: Any, images: Sequence[LabeledImage], protocol: Protocol, log: StudyLog,
        plan: Plan, tick: Callable[[], None],
    ) -> None:  # fmt: skip
        self._supernet, self._images, self._protocol = supernet, images, protocol
        self._log, self._plan, self._tick = log, plan, tick

    def quality(self, arch: Arch, mode: Mode = "subnet") -> Measured:
        """Quality of an arch."""
        key = f"{mode}/{arch.id}"
        if key not in self._log:
            self._log.add(key, self._record(arch, self._embed(arch, mode)))
            self._tick()
        record = self._log[key]
        return Measured(record["iou"], record["error"], np.array(record["scores"]))

    def unknown(self, wanted: Iterable[tuple[Arch, Mode]]) -> int:
        """How many qualities are still to be measured."""
        return sum(key not in self._log for key in {f"{mode}/{arch.id}" for arch, mode in wanted})

    def unknown_noise(self, changes: Sequence[SingleChange], images: int) -> int:
        """How many ratios `noise` has still to measure."""
        keys = (key for i in range(images) for key in self._noise_keys(i, changes))
        return sum(key not in self._log for key in keys)

    def _embed(self, arch: Arch, mode: Mode) -> Embed:
        if mode == "blind":
            return partial(zero_embedding, self._supernet.geometry)
        network = in_float(self._supernet.plan(arch)) if mode == "float" else arch
        return partial(self._supernet.embed, arch=network)

    def noise(self, changes: Sequence[SingleChange], images: int) -> dict[SingleChange, Float]:
        """Added noise-to-signal ratio of each change on the first `images`, (images,) each.

        Added to that of the largest network at its own bits; the signal is the same network in
        floating point.
        """
        ratios = np.array([self._ratios(i, changes) for i in range(images)])
        added = ratios[:, 1:] - ratios[:, :1]
        return {change: added[:, i] for i, change in enumerate(changes)}

    def _record(self, arch: Arch, embed: Embed) -> dict[str, Any]:
        kind = self._protocol.prompt
        found = self._evaluator.score(embed, self._supernet.resolution(arch))[kind]
        iou, error = mean_of_images([scores.iou for scores in found])
        bands = [scores.boundary_iou for scores in found if scores.boundary_iou is not None]
        of_images = [scores.iou for scores in found if len(scores.iou)]
        means = [float(values.mean()) for values in of_images]
        bitops, system_bitops = self._plan.bitops(arch)
        subnet = EvaluatedSubnet(
            arch_id=arch.id, genes=dict(arch.genes), iou=iou, error=error,
            boundary_iou=mean_of_images(bands)[0] if bands else None, prompt=kind,
            split=self._protocol.split, images=len(of_images), objects=sum(map(len, of_images)),
            bitops=bitops / 1e9, system_bitops=system_bitops / 1e9,
            supernet=self._protocol.supernet,
        )  # fmt: skip
        return asdict(subnet) | {"scores": means if len(means) > 1 else of_images[0].tolist()}

    @cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator.of(
            self._supernet.sam, self._images, prompts=(self._protocol.prompt,),
            max_instances=self._protocol.max_objects, seed=self._protocol.seed, boundary=True,
        )  # fmt: skip

    def _ratios(self, image: int, changes: Sequence[SingleChange]) -> list[float]:
        """Ratio of the largest network, then of each change; one line of the log each."""
        name = self._images[image].name
        keys = self._noise_keys(image, changes)
        archs = [self._plan.largest, *(change.arch for change in changes)]
        left = [i for i, key in enumerate(keys) if key not in self._log]
        if left:
            plans = [self._supernet.plan(archs[i]) for i in left]
            found = self._change_noise.ratios(image, plans)
            for place, ratio in found:
                self._log.add(keys[left[place]], {"image": name, "nsr": ratio})
                self._tick()
        return [self._log[key]["nsr"] for key in keys]

    def _noise_keys(self, image: int, changes: Sequence[SingleChange]) -> list[str]:
        start = f"noise/{self._images[image].name}/"
        return [f"{start}-", *(f"{start}{c.gene}={c.option}" for c in changes)]

    @cached_property
    def _change_noise(self) -> ChangeNoise:
        # Over all images of the study, so that the signal does not depend on how many are measured.
        reference = self._supernet.plan(self._plan.largest)
        return ChangeNoise(self._supernet, self._images, reference)


def check_fit(space: SearchSpace, supernet: Any) -> None:
    """Refuse a supernet of another size than the space's.

    Raises:
        ConfigError: the largest arch has other MACs in the supernet than in the space.
    """
    largest = space.largest()
    table = lower(space, largest).table()
    wanted = int((table.macs * table.runs(0)).sum())
    own = Workload(encoder_layers(supernet.plan(largest))).table()
    found = int(own.macs.sum())
    if wanted != found:
        raise ConfigError(
            f"the largest architecture of {space.name} has {wanted / 1e9:.4g} GMACs, and "
            f"{found / 1e9:.4g} in the supernet of {supernet.geometry.name}; give the supernet "
            "that belongs to the space with --supernet"
        )
