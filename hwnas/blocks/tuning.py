"""A network of blocks trained on as a whole, from the weights that its blocks have.

The loss is the noise-to-signal ratio of the embedding against the teacher's, the same as a
block's: the decoder stays as it is, so that the embedding is all that it sees of the encoder.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from hwnas.blocks.noise import ChannelScale, errors_of_images
from hwnas.blocks.slot import SlotModule
from hwnas.blocks.stitching import StitchedSupernet
from hwnas.blocks.teacher import valid_cells
from hwnas.data.labeled import LabeledImage
from hwnas.data.transforms import preprocess
from hwnas.errors import CheckpointError, TrainingError
from hwnas.records.files import replace_bytes

__all__ = ["Targets", "load_network", "save_network", "tune_network"]

_BATCH = 8


@dataclass(frozen=True, eq=False)
class Targets:
    """Images (n, 3, R, R), the teacher's embeddings (n, g, g, C), and where they count."""

    images: torch.Tensor
    embeddings: torch.Tensor
    valid: torch.Tensor
    scale: ChannelScale

    @classmethod
    def of(cls, net: StitchedSupernet, images: Sequence[LabeledImage]) -> Targets:
        """Run the teacher over images.

        Raises:
            DataError: its embeddings do not vary.
        """
        side = net.library.resolution
        inputs = torch.stack([preprocess(image.image, side) for image in images])
        valid = torch.stack([valid_cells(image, net.geometry.grid(side)) for image in images])
        embeddings = torch.cat([
            net.teacher(part).clone().permute(0, 2, 3, 1) for part in torch.split(inputs, _BATCH)
        ])  # fmt: skip
        return cls(
            inputs, embeddings, valid, ChannelScale.of(embeddings, valid, name="the embedding")
        )


def tune_network(
    net: StitchedSupernet, blocks: Sequence[str], targets: Targets, *, steps: int,
    seed: int, batch: int = 4, lr: float = 3e-4,
    told: Callable[[int, float], None] | None = None,
) -> tuple[SlotModule, ...]:  # fmt: skip
    """Train copies of the blocks of a network together; AdamW, a cosine from `lr` to 0.

    `told` hears of each step and its loss.

    Raises:
        TrainingError: the loss is not finite.
    """
    rng = torch.Generator().manual_seed(seed)
    slots = tuple(copy.deepcopy(slot) for slot in net.slots(blocks))
    trained = [p for slot in slots for p in slot.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    for step in range(steps):
        rows = torch.randint(len(targets.images), (batch,), generator=rng)
        for group in optimizer.param_groups:
            group["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
        embeddings = net.run(targets.images[rows], slots).permute(0, 2, 3, 1)
        loss = errors_of_images(
            embeddings, targets.embeddings[rows], targets.valid[rows], targets.scale
        ).mean()
        if not bool(torch.isfinite(loss)):
            raise TrainingError(f"the loss is {loss.item()} after {step} steps; lower --lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if told is not None:
            told(step + 1, loss.item())
    return slots


def save_network(
    path: Path, net: StitchedSupernet, blocks: Sequence[str], slots: Sequence[SlotModule]
) -> None:
    """Write the weights of a network and the names of its blocks, whole or not at all."""
    tensors = {
        f"{slot}.{name}": tensor.contiguous()
        for slot, module in enumerate(slots)
        for name, tensor in module.state_dict().items()
    }
    about = {"blocks": ",".join(blocks), "identity": str(net.library.settings["identity"])}
    replace_bytes(path, save(tensors, metadata=about))


def load_network(path: Path, net: StitchedSupernet) -> tuple[SlotModule, ...]:
    """Read what `save_network` wrote, for the library that it was trained from.

    Raises:
        CheckpointError: it is damaged, or of another library.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        if about.get("identity") != str(net.library.settings["identity"]):
            raise CheckpointError(f"{path}: trained from another teacher than {net.library.path}")
        slots = tuple(copy.deepcopy(slot) for slot in net.slots(about["blocks"].split(",")))
        for slot, module in enumerate(slots):
            prefix = f"{slot}."
            module.load_state_dict({
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items() if name.startswith(prefix)
            })  # fmt: skip
    except (OSError, KeyError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a network of blocks ({error})") from error
    return slots
