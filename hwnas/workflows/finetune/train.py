"""Fine-tune a model on a folder of annotated images, and write down what came of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hwnas.adapters.plugin import resolve_kind
from hwnas.config.finetuning import FinetuneConfig, changed_finetuning, load_finetuning
from hwnas.data.transforms import preprocess
from hwnas.errors import ConfigError, RunError
from hwnas.space import load_space
from hwnas.supernet.training.distributed import World, open_world
from hwnas.supernet.training.finetuning.attached_student import AttachedStudent
from hwnas.supernet.training.finetuning.judging import Judge
from hwnas.supernet.training.finetuning.kept import is_finetuned, read_run, write_run
from hwnas.supernet.training.finetuning.quantizing import add_quantizers
from hwnas.supernet.training.finetuning.run import FinetuneRun, check_run
from hwnas.supernet.training.finetuning.starting import (
    Base,
    fresh_student,
    gradients_for,
    layers_of,
    open_base,
    teacher_of,
)
from hwnas.supernet.training.peak_memory import peak_rss_bytes
from hwnas.supernet.training.trackers import open_trackers
from hwnas.workflows.arch_sources import archs_from
from hwnas.workflows.finetune.material import Material
from hwnas.workflows.finetune.methods import check_method
from hwnas.workflows.stage_watch import stage_watch
from hwnas.workflows.training_folder import explained_stop, open_folder, write_state
from hwnas.workflows.watch import Silent, Watch

__all__ = ["finetune"]

_LOG = logging.getLogger(__name__)
_STATE = "state.json"
_MOST = 0.5  # share of numbers that never moved, from which on a reader is told


def finetune(  # noqa: PLR0913 - one keyword for each thing that a run is made of
    recipe: str | Path | FinetuneConfig | None = None,
    *,
    data: str | Path,
    out: str | Path,
    overrides: Mapping[str, object] | None = None,
    exclude: Sequence[str] = (),
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    trackers: Sequence[str] = (),
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Fine-tune in `out` and write adapters and `finetuned.json` there; returns its content.

    Args:
        recipe: A configuration or a YAML file; the defaults if there is none.
        data: A folder as in `hwnas.data.folder` with the splits train and val; test is never read.
        out: The folder of the run.
        overrides: Keys of the recipe and their values, with dots to reach inside.
        exclude: Images to leave out; the one that the shipped picture was cut from always is.
        seed: Equal seeds give equal weights.
        resume: Continue the run in `out`; one that is done is read.
        device: cpu or cuda.
        trackers: As in `open_trackers`.
        watch: Told about the progress.

    Raises:
        ConfigError: the recipe does not fit the base or the adapter.
        PluginError: there is no such adapter, or it does not take the options.
        DataError: the folder cannot be used.
        RunError: `out` holds another run, or this one without `resume`.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is written.
    """
    out, config, watch = Path(out), _configured(recipe, overrides or {}), watch or Silent()
    if (out / _STATE).is_file() and not resume:  # before the images are read
        raise RunError(f"{out} holds a training run already; add --resume or name another folder")
    check_method(config.adapter.kind)
    material = Material.read(data, config, exclude)
    request = {"recipe": config.model_dump(mode="json"), "data": str(data),
               "exclude": sorted(exclude), "seed": seed}  # fmt: skip
    with open_world(device) as world:
        base = open_base(config, partial(_genes, config, seed))
        base.to(world.device)
        gradients = gradients_for(base, config, material.train, seed=seed, told=_begun(watch))
        student = fresh_student(base, config, seed=seed, gradients=gradients)
        check_run(student, config, layers_of(student))
        teacher = teacher_of(config, base, world.device)
        with open_folder(out, request, resume=resume, world=world) as state:
            if is_finetuned(out):
                return dict(read_run(out).facts)
            used = trackers if world.leads else ()
            with open_trackers(used, out, request) as opened, explained_stop():
                run = FinetuneRun(
                    student, config, base.resolution, material.train, material.validation, out,
                    teacher=teacher, layers=layers_of(student), seed=seed, world=world,
                    trackers=opened, progress=stage_watch(watch, by_clock=False),
                )  # fmt: skip
                return _train(run, base, material, request, state, watch)


def _train(
    run: FinetuneRun, base: Base, material: Material, request: Mapping[str, Any],
    state: Mapping[str, Any], watch: Watch,
) -> dict[str, Any]:  # fmt: skip
    student, config = run.student, run.config
    student.module.to(run.world.device).eval()
    judge = Judge(
        student.sam, material.final, base.resolution, prompts=config.validation.final_prompts,
        seed=run.seed,
    )  # fmt: skip
    kept = dict(state)
    watch.begin("judging the base", 1)
    if "before" not in kept:
        kept["before"] = judge(student.embed)
    watch.advance(1)
    if config.quantizer is not None and isinstance(student, AttachedStudent):
        images = material.calibration(config.quantizer.images, run.seed)
        inputs = [preprocess(image.image, base.resolution) for image in images]
        inputs = [image.to(run.world.device) for image in inputs]
        add_quantizers(student, inputs, config.quantizer, seed=run.seed)
        if "quantized" not in kept:
            kept["quantized"] = judge(student.embed)
    if run.world.leads:
        write_state(run.folder, kept)
    figures = run.run()
    watch.begin("judging the result", 1)
    after = judge(student.embed)
    watch.advance(1)
    facts = {
        **_described(config, base, request, run.world),
        "iou": {"before": kept["before"], "quantized": kept.get("quantized"), "after": after},
        "images": {"train": len(material.train), "val": len(material.final)},
        "trainable_parameters": sum(run.trainable.values()),
        "trainable_groups": run.trainable,
        "unmoved": _told(run.unmoved, config),
        "steps": figures["steps"],
        "skipped_steps": figures["skipped"],
        "seconds": figures["seconds"],
        "seconds_per_step": run.seconds_per_step(figures),
        "peak_rss_bytes": peak_rss_bytes(),
    }
    return write_run(run.folder, student, facts) if run.world.leads else facts


def _told(unmoved: float | None, config: FinetuneConfig) -> float | None:
    """Say so where most of an adapter was never trained."""
    if unmoved is not None and unmoved > _MOST:
        _LOG.warning(
            "%s: %.0f %% of its numbers are as they began, no gradient reached them; at few bits "
            "the largest weights lie beyond the grid (another mask reaches others), and frozen "
            "rows stay", config.adapter.kind, 100 * unmoved,
        )  # fmt: skip
    return None if unmoved is None else round(unmoved, 4)


def _described(
    config: FinetuneConfig, base: Base, request: Mapping[str, Any], world: World
) -> dict[str, Any]:
    """What was done; no path of this machine but that of the base, and no code by its file."""
    recipe = config.model_dump(mode="json")
    if config.adapts:
        recipe["adapter"]["kind"] = resolve_kind(config.adapter.kind)[1]
    return {
        "format": 1,
        "method": recipe["adapter"]["kind"],
        "options": recipe["adapter"]["options"],
        "base": Path(config.base).name,
        "base_hash": base.hash,
        "arch": None if base.genes is None else dict(base.genes),
        "resolution": base.resolution,
        "data": Path(request["data"]).name,
        "exclude": request["exclude"],
        "seed": request["seed"],
        "device": world.device.type,
        "recipe": recipe,
    }


def _genes(config: FinetuneConfig, seed: int, space: str) -> dict[str, Any]:
    """The genes of the one subnet that `arch` names."""
    source = str(config.arch)
    found = archs_from(load_space(space), source, seed=seed, resolution=config.resolution)
    if len(found) != 1:
        raise ConfigError(
            f"arch {source}: {len(found)} designs; a fine-tuning has one, so give largest, "
            "smallest, or a file with one line"
        )
    return dict(found[0].genes)


def _begun(watch: Watch) -> Callable[[int, int], None]:
    """Show the batches of the gradients, once there is one."""

    def told(done: int, total: int) -> None:
        if done == 1:
            watch.begin("looking at gradients", total)
        watch.advance(done)

    return told


def _configured(
    recipe: str | Path | FinetuneConfig | None, changes: Mapping[str, object]
) -> FinetuneConfig:
    if recipe is None or isinstance(recipe, FinetuneConfig):
        content = {} if recipe is None else recipe.model_dump()
        return changed_finetuning(content, changes, source="the recipe")
    return load_finetuning(recipe, changes)
