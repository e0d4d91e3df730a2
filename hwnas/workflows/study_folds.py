"""What each way to deploy a trained NAS-LoRA loses: residuals of its layers, and quality."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hwnas.data.embedded import EXCLUDED_FROM_TRAINING
from hwnas.data.folder import find_pairs, read_pairs
from hwnas.data.transforms import preprocess
from hwnas.errors import DataError
from hwnas.records.files import replace_text
from hwnas.supernet.evaluation import PromptKind, evaluate_images
from hwnas.supernet.training.finetuning.folding import EXPORTS, open_folded
from hwnas.workflows.evaluate.data import open_data
from hwnas.workflows.watch import Silent, Watch

__all__ = ["FoldRow", "study_folds"]


@dataclass(frozen=True, slots=True)
class FoldRow:
    """One export: residuals over layers (0 to 1), and mean IoU over images by prompt."""

    export: str
    layers: int
    residual_mean: float
    residual_max: float
    worst_layer: str
    iou: dict[str, float]

    def row(self) -> dict[str, object]:
        """For a table."""
        return {
            "export": self.export, "layers": self.layers, "residual, mean": self.residual_mean,
            "residual, max": self.residual_max, "of layer": self.worst_layer,
            **{f"IoU {prompt}": value for prompt, value in self.iou.items()},
        }  # fmt: skip


def study_folds(  # noqa: PLR0913 - one keyword for each option of the command
    run: str | Path,
    *,
    data: str | Path,
    split: str = "val",
    prompts: Sequence[PromptKind] = ("box", "point"),
    calibration: int = 8,
    max_images: int | None = None,
    max_prompts: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    watch: Watch | None = None,
) -> list[FoldRow]:
    """Deploy the cells of a fine-tuning in every way (`EXPORTS`) and score each on `split`.

    Folds are fitted, and residuals taken, on `calibration` images of the split train; `out` is a
    JSON file for the rows. A run that was annealed shows what annealing left: nothing to lose.

    Raises:
        CheckpointError: the folder holds no finished fine-tuning.
        ConfigError: it has no NAS-LoRA adapters, or its cells have no such fold.
        DataError: the folder of images cannot be used.
    """
    watch = watch or Silent()
    left = [p for p in find_pairs(data, split="train") if p.name not in EXCLUDED_FROM_TRAINING]
    if not left:
        raise DataError(f"{data}: no image in the split train to fit folds on")
    order = np.random.default_rng(seed).permutation(len(left))[:calibration]
    fitted = [image.image for image in read_pairs([left[i] for i in order])]
    every = open_data(data, split=split, max_images=max_images, seed=seed).images
    images = [image for image in every if image.instances.any()]
    rows = []
    watch.begin("exports", len(EXPORTS))
    resolution = open_folded(run, "branch", ()).model.resolution
    inputs = [preprocess(image, resolution) for image in fitted]
    for export in EXPORTS:
        found = open_folded(run, export, inputs)
        scores = {
            prompt: evaluate_images(
                found.model.sam, images, resolution=resolution, prompt=prompt,
                embed=found.model.embed, max_instances=max_prompts, seed=seed,
            )
            for prompt in prompts
        }  # fmt: skip
        iou: dict[str, float] = {
            prompt: float(np.mean([one.mean() for one in values]))
            for prompt, values in scores.items()
        }
        worst = max(found.residuals, key=lambda path: found.residuals[path])
        mean = float(np.mean(list(found.residuals.values())))
        rows.append(FoldRow(export, len(found.residuals), mean, found.residuals[worst], worst, iou))
        watch.advance(1)
    if out is not None:
        replace_text(Path(out), json.dumps([asdict(row) for row in rows], indent=1))
    return rows
