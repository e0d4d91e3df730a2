"""Each process keeps the optimizer's state of a part of the parameters.

Source: stage 1 of Rajbhandari et al., "ZeRO" (2020). Parameters are given out whole, not cut.
Why not FSDP: docs/decisions/0009-sharded-optimizer-state.md.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import distributed

from hwnas.errors import ConfigError
from hwnas.supernet.training.distributed import World

__all__ = ["Owners"]


class Owners:
    """Which process keeps the moments and the average of which parameter.

    The largest parameter goes first, to the process that has the fewest elements so far. Without
    `world.shard` every process keeps all.
    """

    def __init__(self, sizes: Mapping[str, int], world: World) -> None:
        """Give out parameters by name and number of elements.

        Raises:
            ConfigError: there are fewer parameters than processes.
        """
        self._world = world
        self._shared = world.shard and world.size > 1
        self._owner: dict[str, int] = {}
        if not self._shared:
            return
        if len(sizes) < world.size:
            raise ConfigError(
                f"{len(sizes)} parameters cannot be sharded over {world.size} processes; "
                "start fewer, or train without --shard"
            )
        loads = [0] * world.size
        for name in sorted(sizes, key=lambda n: (-sizes[n], n)):
            rank = loads.index(min(loads))
            self._owner[name] = rank
            loads[rank] += sizes[name]

    def mine(self, name: str) -> bool:
        """Whether this process keeps the state of a parameter."""
        return not self._shared or self._owner[name] == self._world.rank

    def spread(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Overwrite every tensor with its owner's, in place; one broadcast a process."""
        if not self._shared:
            return
        for rank in range(self._world.size):
            own = [t for name, t in tensors.items() if self._owner[name] == rank]
            flat = torch.cat([t.detach().flatten() for t in own])
            distributed.broadcast(flat, rank)
            if rank == self._world.rank:
                continue
            with torch.no_grad():
                sizes = [t.numel() for t in own]
                for tensor, piece in zip(own, torch.split(flat, sizes), strict=True):
                    tensor.copy_(piece.view_as(tensor))
