"""One process, or several that were started by `torchrun`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import distributed

from hwnas.errors import ConfigError
from hwnas.supernet.training.stage import Figures, Share

__all__ = ["World", "is_leader", "open_world"]


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a training run: this one is `rank` of `size` and computes on `device`.

    With `shard` each process keeps the optimizer's state of a part of the parameters.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    shard: bool = False

    @property
    def share(self) -> Share:
        return Share(self.rank, self.size)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and decides when to stop."""
        return self.rank == 0

    def average_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes, by one all-reduce.

        A parameter without a gradient in some processes counts as zero there; one without a
        gradient in all of them keeps none, so that the optimizer leaves it alone.
        """
        if self.size == 1:
            return
        present = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32)
        pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        # Joined in the widest type among them, float32 at least.
        flat = torch.cat([*(piece.flatten() for piece in pieces), present.to(self.device)])
        distributed.all_reduce(flat)
        flat /= self.size
        present = flat[-len(parameters) :].cpu()
        at = 0
        for parameter, held in zip(parameters, present.tolist(), strict=True):
            piece = flat[at : at + parameter.numel()]
            at += parameter.numel()
            if held:
                parameter.grad = piece.view_as(parameter).to(parameter.dtype)

    def mean(self, figures: Figures) -> dict[str, float]:
        """The mean of each figure over the processes; all of them name the same figures."""
        if not figures:
            return {}
        values = torch.stack(
            [torch.as_tensor(v).detach().to(self.device, torch.float64) for v in figures.values()]
        )
        if self.size > 1:
            distributed.all_reduce(values)
            values /= self.size
        return dict(zip(figures, values.tolist(), strict=True))

    def agree(self, *values: float) -> tuple[float, ...]:
        """The values of the process that leads."""
        if self.size == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(tensor, 0)
        return tuple(tensor.tolist())


def is_leader() -> bool:
    """Whether this process would lead; known before the processes meet."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def open_world(device: str = "cpu", *, shard: bool = False) -> Iterator[World]:
    """Join the processes that `torchrun` started, or be the only one.

    `device` is "cpu" (gloo) or "cuda" (nccl, one device a process).

    Raises:
        ConfigError: there is no such device.
    """
    environment: Mapping[str, str] = os.environ
    rank, size = int(environment.get("RANK", 0)), int(environment.get("WORLD_SIZE", 1))
    place = _device(device, int(environment.get("LOCAL_RANK", 0)))
    if size == 1:
        yield World(device=place)
        return
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    try:
        yield World(rank, size, place, shard)
    finally:
        distributed.destroy_process_group()


def _device(name: str, local: int) -> torch.device:
    if name == "cpu":
        return torch.device("cpu")
    if name != "cuda":
        raise ConfigError(f"device {name}: expected cpu or cuda")
    count = torch.cuda.device_count()
    if local >= count:
        raise ConfigError(
            f"device cuda: process {local} of this machine finds {count} CUDA devices; start as "
            "many processes as there are devices, or train on cpu"
        )
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
