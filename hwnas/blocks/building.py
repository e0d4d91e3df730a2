"""From a teacher's features to measured blocks, one at a time and each from its own seed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from hwnas.blocks.distilling import Distillation, Material, distill, rounded
from hwnas.blocks.library import BlockRecord, weights_path
from hwnas.blocks.noise import errors_of_images
from hwnas.blocks.options import BlockOption, kept_blocks, teacher_option
from hwnas.blocks.slicing import start_from_teacher
from hwnas.blocks.slot import SlotModule, make_slot
from hwnas.blocks.teacher import TeacherPass
from hwnas.errors import CheckpointError
from hwnas.records.files import replace_bytes

__all__ = ["Builder", "load_slot", "save_slot"]

_BATCH = 8
_RANGE_IMAGES = 16  # that quantizers are fitted on


@dataclass(frozen=True, eq=False)
class Builder:
    """Trains and measures blocks; the teacher ran once over both sets of images.

    `macs` counts the multiply-accumulates of an option of a slot.
    """

    supernet: Any
    resolution: int
    training: TeacherPass
    held_out: TeacherPass
    how: Distillation
    seed: int
    macs: Callable[[int, BlockOption], int]

    def trunk(self, slot: int, option: BlockOption) -> dict[str, torch.Tensor]:
        """Train the shape of an option in floating point; what its file holds, by name.

        The teacher's own shape is left as it is.
        """
        module = self._module(slot, option.in_float)
        rng = self._rng(slot, option.shape)
        start_from_teacher(module, self.supernet, self.resolution, rng)
        if option.shape == teacher_option(self.supernet.geometry).shape:
            return dict(module.state_dict())
        distill(module, self._training(slot), self.how, finish=False, rng=rng)
        return rounded(module)

    def build(
        self, slot: int, option: BlockOption, trunk: SlotModule
    ) -> tuple[BlockRecord, dict[str, torch.Tensor]]:
        """Train one block on from its shape's `trunk`, and measure it as its file will hold it.

        The teacher's own block is taken over.
        """
        started = time.perf_counter()
        module = self._module(slot, option)
        own = option == teacher_option(self.supernet.geometry)
        material = self._training(slot)
        module.set_ranges(trunk, material.inputs[:_RANGE_IMAGES])
        take_eps(module, self.supernet)
        if not own:
            rng = self._rng(slot, f"{option.shape} finish")  # the same images for all bits
            distill(module, material, self.how, finish=True, rng=rng)
        tensors = dict(module.state_dict()) if own else rounded(module)
        nsr, fisher = self._measured(slot, module)
        record = BlockRecord(
            slot, option.name, sum(nsr) / len(nsr), nsr, fisher,
            params=sum(p.numel() for p in module.parameters()), macs=self.macs(slot, option),
            steps=0 if own else self.how.steps + self.how.finish,
            seconds=round(time.perf_counter() - started, 3),
        )  # fmt: skip
        return record, tensors

    def _module(self, slot: int, option: BlockOption) -> SlotModule:
        return _empty(self.supernet, self.resolution, slot, option)

    def _training(self, slot: int) -> Material:
        return self.training.material(slot, self.training.scales[slot])

    @torch.no_grad()
    def _measured(
        self, slot: int, module: SlotModule
    ) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
        """Ratio, and first-order change of the loss, of each held-out image."""
        material = self.held_out.material(slot, self.training.scales[slot])
        gradients = self.held_out.gradients
        ratios: list[float] = []
        changes: list[float] = []
        for start in range(0, len(material.inputs), _BATCH):
            rows = slice(start, start + _BATCH)
            y, target, valid = module(material.inputs[rows]), material.targets[rows], material.valid
            ratios += errors_of_images(y, target, valid[rows], material.scale).tolist()
            if gradients is not None:
                moved = ((y - target) * gradients[slot][rows]).double().square()
                changes += moved.sum(dim=(1, 2, 3)).tolist()
        return tuple(ratios), tuple(changes) if gradients is not None else None

    def _rng(self, slot: int, name: str) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed}/{slot}/{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def save_slot(folder: Path, slot: int, block: str, tensors: dict[str, torch.Tensor]) -> None:
    """Write the weights of a block, whole or not at all."""
    path = weights_path(folder, slot, block)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_bytes(path, save({name: t.contiguous() for name, t in tensors.items()}))


def load_slot(
    folder: Path, supernet: Any, resolution: int, slot: int, option: BlockOption,
    *, name: str | None = None,
) -> SlotModule:  # fmt: skip
    """Read a block of a library; `name` is that of its file where it is not the option's.

    Raises:
        CheckpointError: its file is missing, damaged or of another shape.
    """
    path = weights_path(folder, slot, name or option.name)
    module = _empty(supernet, resolution, slot, option)
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        module.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: not the weights of {option.name} in slot {slot} ({error}); build the library "
            "again, or copy its whole folder"
        ) from error
    take_eps(module, supernet)
    return module


def _empty(supernet: Any, resolution: int, slot: int, option: BlockOption) -> SlotModule:
    geometry = supernet.geometry
    places = kept_blocks(_keep_order(supernet.drop_order[slot]), option.depth)
    return make_slot(geometry, option, places, geometry.grid(resolution))


def _keep_order(drop_order: Sequence[int]) -> tuple[int, ...]:
    return tuple(reversed(drop_order))


def take_eps(module: SlotModule, supernet: Any) -> None:
    """Give norms the teacher's constants, which are no weights."""
    for place, block in zip(module.places, module.blocks, strict=True):
        stock: Any = supernet.encoder.encoder.blocks[place]
        own: Any = block
        own.norm1.eps, own.norm2.eps = stock.norm1.eps, stock.norm2.eps
