"""Train a network of blocks on as a whole, and write it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwnas.blocks.stitching import build as build_stitched
from hwnas.blocks.trial import Trial
from hwnas.blocks.tuning import Targets, save_network, tune_network
from hwnas.data.scores import mean_with_error
from hwnas.errors import ConfigError
from hwnas.workflows.evaluate.data import open_data
from hwnas.workflows.watch import Silent, Watch

__all__ = ["FineTuned", "finetune_network"]


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A network before and after: noise of the embedding with its standard error, and IoU."""

    blocks: tuple[str, ...]
    nsr_before: float
    nsr: float
    nsr_error: float | None
    iou_before: float | None
    iou: float | None
    path: Path

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"path": str(self.path), "blocks": list(self.blocks)}


def finetune_network(  # noqa: PLR0913 - one keyword for each option of the command
    library: Path,
    *,
    blocks: Sequence[str],
    data: str | Path,
    out: Path,
    steps: int = 200,
    batch: int = 4,
    lr: float = 3e-4,
    images: int = 128,
    held_out: int = 32,
    seed: int = 0,
    watch: Watch | None = None,
) -> FineTuned:
    """Train the blocks of one network together against the teacher's embedding.

    Args:
        library: folder of a library, with weights.
        blocks: one block a slot, by name.
        data: folder of annotated images with the splits `train` and `val`.
        out: file for the weights, ending in .safetensors; refused if it exists.
        steps: steps of training.
        batch: images a step.
        lr: largest learning rate.
        images: training images at most.
        held_out: validation images at most, which figures are measured on.
        seed: of draws of images and batches.
        watch: told about the progress.

    Raises:
        HwnasError: a file, a block, the data or an option cannot be used.
    """
    if min(steps, batch, images, held_out) < 1 or lr <= 0:
        raise ConfigError(
            f"--steps {steps}, --batch {batch}, --images {images}, --held-out {held_out}, --lr "
            f"{lr:g}: expected 1 or more, and a learning rate above 0"
        )
    if out.exists() or out.suffix != ".safetensors":
        raise ConfigError(f"{out}: expected a new file whose name ends in .safetensors")
    watch = watch or Silent()
    net = build_stitched(library)
    names = tuple(blocks)
    net.slots(names)  # a block that is missing is known before the data is read
    held = open_data(data, split="val", max_images=held_out, seed=seed).images
    training = open_data(data, split="train", max_images=images, seed=seed).images
    trial = Trial.of("", net, held, iou=True, seed=seed)
    watch.begin("measuring the network", 2)
    before = trial.network(names)
    watch.advance(1, nsr=before.nsr)
    watch.begin("training the network", steps)
    slots = tune_network(
        net, names, Targets.of(net, training), steps=steps, batch=batch, lr=lr,
        seed=seed, told=lambda n, loss: watch.advance(n, nsr=loss),
    )  # fmt: skip
    after = trial.judged(names, slots)
    save_network(out, net, names, slots)
    return FineTuned(
        names, before.nsr, after.nsr, mean_with_error(after.nsr_of_images)[1], before.iou,
        after.iou, out,
    )  # fmt: skip
