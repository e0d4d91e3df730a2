"""Networks of blocks from a library: a supernet whose subnets are one block for each slot.

Blocks were trained on the teacher's features and run on each other's here, so that errors
compound; how far the order of the block losses survives is what the stitching check measures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwnas.blocks.building import load_slot
from hwnas.blocks.library import Library, read_library
from hwnas.blocks.options import option_of, slot_gene
from hwnas.blocks.slot import SlotModule
from hwnas.errors import ArchError, CheckpointError
from hwnas.supernet.identity import supernet_identity
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.supernet.sam_supernet import build as build_supernet
from hwnas.workload.sam_plan import EncoderPlan

__all__ = ["StitchedSupernet", "blocks_of", "build"]

_MOST_MODULES = 256  # kept at once: some 500 MB of the small model


class StitchedSupernet(nn.Module):
    """Patch embedding, neck and decoder of the teacher around the blocks of a library.

    Weights of blocks are read when they are first used. It answers to archs of the space that the
    library was built for, and to sequences of block names. `whole` is the teacher.
    """

    def __init__(self, library: Library, teacher: SamSupernet) -> None:
        super().__init__()
        self.library, self.geometry, self.sam = library, teacher.geometry, teacher.sam
        self.whole = teacher.requires_grad_(False)
        self._slots = _SlotCache(library, teacher)
        self._active: tuple[str, ...] = ()

    def resolution(self, arch: Any) -> int:
        """Side of the square input, in pixels: that of the library."""
        del arch
        return self.library.resolution

    def activate(self, arch: Any) -> None:
        """Make `arch` the network that calls run."""
        self._active = self._names(arch)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Embed normalized images (B, 3, R, R) with the active network: (B, 256, g, g)."""
        return self.run(images, self.slots(self._active))

    @torch.no_grad()
    def embed(self, images: torch.Tensor, arch: Any) -> torch.Tensor:
        """Embed images with the blocks of `arch`, whatever is active."""
        return self.run(images, self.slots(arch))

    def teacher(self, images: torch.Tensor) -> torch.Tensor:
        """Embed images with the teacher."""
        return self.whole.teacher(images)

    def slots(self, arch: Any) -> tuple[SlotModule, ...]:
        """The modules of an arch; they are shared by all archs that name them."""
        return tuple(self._slots.get(slot, name) for slot, name in enumerate(self._names(arch)))

    def slot(self, slot: int, name: str) -> SlotModule:
        """The module of one block."""
        return self._slots.get(slot, name)

    def run(self, images: torch.Tensor, slots: Sequence[nn.Module]) -> torch.Tensor:
        """Embed images with any modules in the slots."""
        side = self.library.resolution
        if images.shape[-2:] != (side, side):
            raise ArchError(
                f"images are {images.shape[-1]}x{images.shape[-2]}, the blocks were trained at "
                f"{side}x{side}; resize and pad them to that"
            )
        view = self.whole.encoder.view(EncoderPlan.uniform(self.geometry, resolution=side))
        x = view.tokens(images)
        for slot in slots:
            x = slot(x)
        return view.neck(x)

    def _names(self, arch: Any) -> tuple[str, ...]:
        return blocks_of(arch, self.library.slots)


class _SlotCache:
    """Modules by slot and name; the least recently used are forgotten."""

    def __init__(self, library: Library, teacher: SamSupernet) -> None:
        self._library, self._teacher = library, teacher
        self._modules: OrderedDict[tuple[int, str], SlotModule] = OrderedDict()

    def get(self, slot: int, name: str) -> SlotModule:
        key = slot, name
        if key not in self._library.blocks:
            raise ArchError(
                f"{self._library.path} has no block {name} for slot {slot}; build it with `hwnas "
                "blocks build --resume`, or restrict the space to what was built"
            )
        if key not in self._modules:
            library = self._library
            self._modules[key] = load_slot(
                library.path, self._teacher, library.resolution, slot, option_of(name)
            ).eval()
            if len(self._modules) > _MOST_MODULES:
                self._modules.popitem(last=False)
        self._modules.move_to_end(key)
        return self._modules[key]


def blocks_of(arch: Any, slots: int) -> tuple[str, ...]:
    """The names of an arch's blocks, slot by slot.

    Raises:
        ArchError: there are not as many.
    """
    if isinstance(arch, tuple | list):
        names = tuple(map(str, arch))
    else:
        genes = arch if isinstance(arch, Mapping) else arch.genes
        names = tuple(str(genes[slot_gene(s)]) for s in range(slots) if slot_gene(s) in genes)
    if len(names) != slots:
        raise ArchError(f"{len(names)} blocks for {slots} slots; expected one block a slot")
    return names


def build(name_or_path: str | Path) -> StitchedSupernet:
    """Open the library in a folder as a supernet.

    Raises:
        CheckpointError: there is no folder, or the teacher is not the one that the blocks were
            trained on.
    """
    path = Path(name_or_path)
    if not path.is_dir():
        raise CheckpointError(
            f"{name_or_path}: no library of blocks with weights; build one with `hwnas blocks "
            "build`, and name its folder with --supernet"
        )
    library = read_library(path)
    teacher = build_supernet(library.settings["supernet"])
    found = supernet_identity(teacher)
    if found != library.settings["identity"]:
        raise CheckpointError(
            f"{path}: its blocks were trained on other weights than those of "
            f"{library.settings['supernet']} ({library.settings['identity']}, now {found}); build "
            "the library again"
        )
    return StitchedSupernet(library, teacher)
