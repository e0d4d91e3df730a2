"""How quantization disturbs the gradients of an encoder, and what freezing o and v is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hwnas.config.finetuning import FinetuneConfig
from hwnas.data.folder import find_pairs
from hwnas.errors import ConfigError, Interrupted
from hwnas.supernet.propagation import PropagationProbe, probing_student
from hwnas.supernet.training.distributed import open_world
from hwnas.supernet.training.finetuning.starting import Base, open_base, teacher_of
from hwnas.workflows.evaluate.data import EvaluationData, open_data
from hwnas.workflows.study.options import hash_images
from hwnas.workflows.study_log import StudyLog, refuse_existing
from hwnas.workflows.study_propagation.measure import measure_all, read_samples, with_objects
from hwnas.workflows.study_propagation.options import (
    FLOAT,
    PropagationOptions,
    label_of,
    recipe_of,
)
from hwnas.workflows.study_propagation.ranking import (
    ProjectionRow,
    Verdict,
    cell_statistics,
    judge,
    rank_projections,
)
from hwnas.workflows.study_propagation.trained import (
    TrainedSignals,
    measure_trained,
    read_trained,
)
from hwnas.workflows.study_propagation.training import (
    FreezeRow,
    compare_trainings,
    recipes_of,
    train_all,
)
from hwnas.workflows.watch import Silent, Watch

__all__ = ["PropagationStudy", "study_propagation"]


@dataclass(frozen=True)
class PropagationStudy:
    """What a study found.

    Attributes:
        base: Name of the model.
        resolution: Side of its input in pixels.
        losses: Names of the losses: `task`, and `kd_qat` where there is a teacher.
        samples: Batches, of all seeds together.
        cells: By label of bits, figures of every block and projection over the samples: `NAME` is
            the mean and `NAME.sd` the deviation (see `hwnas.supernet.propagation.compare`).
        rows: By label of bits and by loss, the projections, the most disturbed first.
        verdicts: Of each pair of bits and loss, but not of floating point.
        trainings: Fine-tunings by bits and policy; none without `train`.
        trained: Signals of the models that they left, beside the base's in floating point.
        notes: What a reader must not miss.
    """

    base: str
    resolution: int
    losses: tuple[str, ...]
    samples: int
    cells: Mapping[str, tuple[Mapping[str, Any], ...]]
    rows: Mapping[str, Mapping[str, tuple[ProjectionRow, ...]]]
    verdicts: tuple[Verdict, ...]
    trainings: tuple[FreezeRow, ...]
    trained: tuple[TrainedSignals, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def sentences(self, loss: str | None = None) -> list[str]:
        """Notes, verdicts (of all losses, or of one), and what the fine-tunings say."""
        from hwnas.workflows.study_propagation.tables import training_sentences

        verdicts = [v.sentence for v in self.verdicts if loss in (None, v.loss)]
        return [*self.notes, *verdicts, *training_sentences(self.trainings)]


def study_propagation(
    base: str | Path = "sam-vit-t",
    *,
    out: str | Path,
    data: str | Path | None = None,
    options: PropagationOptions | None = None,
    resume: bool = False,
    device: str = "cpu",
    watch: Watch | None = None,
) -> PropagationStudy:
    """Compare gradients under quantizers with those in floating point, on equal batches.

    Every linear layer of the encoder's blocks is fake-quantized as `hwnas finetune --bits` does it.
    Nothing is trained, unless `options.train` asks for fine-tunings with and without frozen rows.

    Args:
        base: Shipped name or checkpoint of a plain model.
        out: Folder for `measurements.jsonl`, one line each as soon as it is measured, for
            `propagation.json`, `.csv` and `.md`, and for the pictures.
        data: Folder of annotated images; the embedded picture by default.
        options: Everything else.
        resume: Go on in `out`; more bits, seeds, batches and fine-tunings may be added.
        device: cpu or cuda.
        watch: Told where the study stands.

    Raises:
        ConfigError: the options make no sense, or the recipe does not fit.
        CheckpointError: the base cannot be loaded.
        DataError: the images cannot be used.
        RunError: the folder exists, or was begun with another model, recipe or images.
        Interrupted: Ctrl-C; what was measured is saved.
    """
    from hwnas.workflows.study_propagation.tables import write_propagation

    options, watch, out = options or PropagationOptions(), watch or Silent(), Path(out)
    config = recipe_of(str(base), options.overrides)
    recipes = recipes_of(config, options)
    if not resume:
        refuse_existing(out)
    _check_splits(data, options)
    images = open_data(data, split=options.split, max_images=options.max_images, seed=options.seed)
    with open_world(device) as world:
        found = open_base(config, _no_genes)
        settings = _settings(config, found, images)
        teacher = teacher_of(config, found, world.device)
        student = probing_student(found.sam, config).to(world.device)
        probe = PropagationProbe(student, config, found.resolution, teacher=teacher)
        usable = with_objects(images.images, str(data))
        try:
            with StudyLog(out, settings, resume=resume) as log:
                measure_all(probe, usable, found.resolution, options, log, watch)
                train_all(recipes, options, log, watch, data=data, device=device)
                measure_trained(probe, usable, config, options, log, watch, teacher=teacher)
                study = _result(config, found, images, options, log)
                write_propagation(study, log)
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"interrupted; what was measured is in {out}: go on with --resume"
            ) from error
    return study


def _check_splits(data: str | Path | None, options: PropagationOptions) -> None:
    """Find out before anything is measured that there is nothing to train on."""
    if not options.train:
        return
    if data is None:
        raise ConfigError("--train: expected --data with the splits train and val to train on")
    for split in ("train", "val"):
        find_pairs(data, split=split)


def _no_genes(space: str) -> Mapping[str, Any]:
    raise ConfigError(f"a subnet of {space}: expected a plain model")


def _settings(config: FinetuneConfig, base: Base, images: EvaluationData) -> dict[str, Any]:
    recipe = config.model_dump(mode="json", exclude={"base", "arch", "quantizer", "steps"})
    recipe["freeze"].pop("rows")
    return {
        "study": "propagation", "base_sha256": base.hash, "resolution": base.resolution,
        "images_sha256": hash_images(images.images),
        **{f"recipe.{name}": value for name, value in recipe.items()},
    }  # fmt: skip


def _result(
    config: FinetuneConfig, base: Base, images: EvaluationData, options: PropagationOptions,
    log: StudyLog,
) -> PropagationStudy:  # fmt: skip
    samples = {bits: read_samples(log, options, bits) for bits in options.bits}
    losses = tuple(next(iter(samples.values()))[0]["losses"])
    notes = [
        f"samples: {options.seeds * options.batches} batches of {config.images} views "
        f"({options.batches} for each seed, from {options.seed} on), images: "
        f"{len(images.images)} of {images.split}"
    ]
    if len(images.images) == 1:
        notes.append("all batches are of one picture: the figures say nothing of others")
    on_grid = [
        label_of(bits)
        for bits, found in samples.items()
        if bits != FLOAT and all(cell["weight_sqnr"] is None for cell in found[0]["cells"])
    ]
    if on_grid:
        notes.append(
            f"the base's weights lie on the grid of {', '.join(on_grid)} already: only inputs are "
            "rounded there"
        )
    return PropagationStudy(
        Path(config.base).name, base.resolution, losses, options.seeds * options.batches,
        {label_of(bits): tuple(cell_statistics(found)) for bits, found in samples.items()},
        {
            label_of(bits): {loss: tuple(rank_projections(found, loss)) for loss in losses}
            for bits, found in samples.items()
        },
        tuple(
            judge(found, label_of(bits), loss)
            for bits, found in samples.items() if bits != FLOAT
            for loss in losses
        ),
        compare_trainings(log, options), tuple(read_trained(log, options, losses[-1])),
        tuple(notes),
    )  # fmt: skip
