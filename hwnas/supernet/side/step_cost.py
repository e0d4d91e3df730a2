"""Memory and time of a training step, a side network's beside those of adapters on the weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch

from hwnas.adapters import attach
from hwnas.config.training import BatchConfig, TrainConfig
from hwnas.data.embedded import embedded_image
from hwnas.supernet.sam_model import build_sam, encode
from hwnas.supernet.side.config import METHODS
from hwnas.supernet.side.features import SamBackbone
from hwnas.supernet.side.network import side_network
from hwnas.supernet.side.student import SideStudent
from hwnas.supernet.training.elastic.tasks import PromptTask
from hwnas.supernet.training.peak_memory import peak_rss_bytes
from hwnas.workload.sam_geometry import GEOMETRIES, SamGeometry

__all__ = ["AdaptedStep", "AdaptedStepCost", "SavedBytes", "measure_adapted_step"]

_RATE = 1e-3


class SavedBytes:
    """Within its block: what autograd keeps for backward, `peak` the most at one moment.

    Each piece of memory counts once, however often it is kept; `without` are tensors that are
    there in any case, such as weights.
    """

    def __init__(self, without: Iterable[torch.Tensor] = ()) -> None:
        self._without = {t.untyped_storage().data_ptr() for t in without}
        self._kept: dict[int, int] = {}
        self._bytes, self.peak = 0, 0
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, lambda kept: kept.tensor)

    def __enter__(self) -> Self:
        self._hooks.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._hooks.__exit__(kind, error, trace)

    def _pack(self, tensor: torch.Tensor) -> _Kept:
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if address not in self._without:
            self._kept[address] = self._kept.get(address, 0) + 1
            if self._kept[address] == 1:
                self._bytes += size
                self.peak = max(self.peak, self._bytes)
        return _Kept(tensor, self)

    def released(self, tensor: torch.Tensor) -> None:
        """Autograd has let go of a tensor."""
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address in self._kept:
            self._kept[address] -= 1
            if not self._kept[address]:
                del self._kept[address]
                self._bytes -= storage.nbytes()


class _Kept:
    """A kept tensor that tells when it is let go."""

    def __init__(self, tensor: torch.Tensor, meter: SavedBytes) -> None:
        self.tensor, self._meter = tensor, meter

    def __del__(self) -> None:
        self._meter.released(self.tensor)


@dataclass(frozen=True, slots=True)
class AdaptedStep:
    """A step to measure: one that trains a side network or an adapter, alone, on prompts.

    `way` is `losa`, `lst`, `res_bypass` or a registered adapter, on the image encoder's linear
    layers; `options` are its own, of the first three `recompute` too. `model` is a shape of
    `GEOMETRIES`, with random weights.
    """

    way: str
    model: str = "sam-vit-t"
    options: Mapping[str, Any] = field(default_factory=dict)
    resolution: int = 512
    images: int = 1
    prompts: int = 4
    steps: int = 3
    device: str = "cpu"
    threads: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class AdaptedStepCost:
    """Trained parameters, bytes kept for backward, the process's peak, seconds of each step.

    `encoder_bytes` are those of `saved_bytes` that are there before the decoder runs;
    `peak_bytes` are those of this process, or on a GPU what torch has allocated; None where the
    system does not say.
    """

    trained: int
    encoder_bytes: int
    saved_bytes: int
    peak_bytes: int | None
    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of the step in the middle."""
        return statistics.median(self.seconds)


def measure_adapted_step(spec: AdaptedStep, geometry: SamGeometry | None = None) -> AdaptedStepCost:
    """Take one step to count and to warm up, and `spec.steps` timed ones, on the embedded picture.

    Run it in a fresh process: the peak is the process's.

    Raises:
        ConfigError, PluginError: there is no such way, or it does not take the options.
    """
    torch.set_num_threads(spec.threads)
    torch.manual_seed(spec.seed)
    device = torch.device(spec.device)
    sam = build_sam(geometry or GEOMETRIES[spec.model]).to(device)
    embed, trained = _way(spec, sam)
    size = BatchConfig(
        resolution=spec.resolution, share=1, images=spec.images, prompts=spec.prompts
    )
    task = PromptTask(TrainConfig(batches=(size,)))
    adam = torch.optim.AdamW(trained, lr=_RATE)
    saved, seconds = (0, 0), []
    for number in range(spec.steps + 1):
        rng = np.random.default_rng([spec.seed, number])
        images = [embedded_image()] * spec.images
        batch = task.batch(images, size, rng, slice(None)).to(device)
        begun = time.perf_counter()
        adam.zero_grad()
        meter = SavedBytes([*sam.state_dict().values(), *trained])
        if number:
            loss = task.loss(task.predict(sam, embed(batch.images), batch), batch)["loss"]
        else:
            with meter:
                embedding = embed(batch.images)
                encoder = meter.peak
                loss = task.loss(task.predict(sam, embedding, batch), batch)["loss"]
            saved = encoder, meter.peak
            del embedding
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    cuda = device.type == "cuda"
    peak = torch.cuda.max_memory_allocated(device) if cuda else peak_rss_bytes()
    return AdaptedStepCost(sum(p.numel() for p in trained), *saved, peak, tuple(seconds[1:]))


def _way(spec: AdaptedStep, sam: Any) -> tuple[Any, list[torch.nn.Parameter]]:
    """What embeds images, and the parameters that train."""
    options = dict(spec.options)
    if spec.way in METHODS:
        recompute = bool(options.pop("recompute", False))
        side = side_network(sam.geometry, spec.way, seed=spec.seed, **options)
        student = SideStudent(sam, SamBackbone(sam), side, recompute=recompute)
        return student.embed, list(student.side.parameters())
    attached = attach(sam, spec.way, seed=spec.seed, **options)
    trained = [p for group in attached.trainable_groups().values() for _, p in group]
    return lambda images: encode(sam, images), trained
