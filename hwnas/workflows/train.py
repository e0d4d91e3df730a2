"""Train the supernet of a recipe on a folder of annotated images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.config.training import TrainConfig, changed_recipe, load_training
from hwnas.data.classes import check_classes
from hwnas.data.embedded import EXCLUDED_FROM_TRAINING
from hwnas.data.folder import find_pairs, read_pairs
from hwnas.errors import ConfigError, DataError
from hwnas.space import SearchSpace, load_space
from hwnas.supernet.checkpoint import load_sam
from hwnas.supernet.sam_supernet import save_supernet
from hwnas.supernet.semantic import semantic_head
from hwnas.supernet.training.distributed import World, open_world
from hwnas.supernet.training.elastic.run import (
    Material,
    SupernetRun,
    calibration_inputs,
    start_supernet,
)
from hwnas.supernet.training.trackers import open_trackers
from hwnas.workflows.stage_watch import stage_watch
from hwnas.workflows.training_folder import explained_stop, open_folder, write_state
from hwnas.workflows.watch import Silent, Watch

__all__ = ["SUPERNET", "find_recipe", "train_supernet"]

SUPERNET = "supernet.safetensors"
_RECIPES = Path(__file__).parents[1] / "assets" / "recipes"


def find_recipe(name_or_path: str | Path) -> Path:
    """The file of a recipe: a path, or the name of one that ships with the package.

    Raises:
        ConfigError: there is none; names those that ship.
    """
    for path in (Path(name_or_path), _RECIPES / f"{name_or_path}.yaml"):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(p.stem for p in _RECIPES.glob("*.yaml")))
    raise ConfigError(f"{name_or_path}: no such recipe; expected a YAML file or one of {shipped}")


def train_supernet(  # noqa: PLR0913 - one keyword for each thing that a run is made of
    recipe: str | Path | TrainConfig,
    *,
    data: str | Path,
    out: str | Path,
    overrides: Mapping[str, object] | None = None,
    exclude: Sequence[str] = (),
    seed: int = 0,
    resume: bool = False,
    device: str = "cpu",
    shard: bool = False,
    trackers: Sequence[str] = (),
    watch: Watch | None = None,
) -> dict[str, dict[str, Any]]:
    """Train a supernet in `out` and write `out/supernet.safetensors`; returns figures by phase.

    `recipe` is a configuration, a YAML file or a shipped name, whose keys `overrides` replace.
    `data` is a folder as in `hwnas.data.folder` with a train and a val split; the test split is
    never read. Images named in `exclude`, and the one that the shipped picture was cut from, are
    left out. Phases that are done are not repeated; equal seeds give equal weights.

    Raises:
        ConfigError: the recipe, or a bit-width or resolution that the space does not have.
        DataError: the folder cannot be used.
        RunError: `out` holds another run, or this one without `resume`.
        Interrupted: Ctrl-C or SIGTERM; a checkpoint is written.
    """
    out, config = Path(out), _configured(recipe, overrides or {})
    space = load_space(config.space)
    space = space.restrict(config.only) if config.only else space
    _check(config, space)
    # before the folder is made, so that a wrong --data leaves nothing behind
    material = _material(data, config, exclude, seed)
    request = {
        "recipe": config.model_dump(mode="json"),
        "data": str(data),
        "exclude": sorted(exclude),
        "seed": seed,
    }
    with (
        open_world(device, shard=shard) as world,
        open_folder(out, request, resume=resume, world=world) as state,
    ):
        used = trackers if world.leads else ()
        with open_trackers(used, out, request) as opened, explained_stop():
            run = _start(config, space, material, out, seed, world)
            run.trackers = opened
            run.progress = stage_watch(watch or Silent(), by_clock=False)
            figures = run.train()
        if world.leads:
            notes = _notes(request, run, figures)
            save_supernet(
                run.supernet, out / SUPERNET, base_weights=run.base_weights, notes=notes,
                with_base=config.base is not None,  # else it ships with the package
            )  # fmt: skip
            write_state(out, {**state, "stages": figures})
    return figures


def _configured(recipe: str | Path | TrainConfig, changes: Mapping[str, object]) -> TrainConfig:
    if isinstance(recipe, TrainConfig):
        return changed_recipe(recipe.model_dump(), changes, source="the recipe")
    return load_training(find_recipe(recipe), changes)


def _notes(
    request: Mapping[str, Any], run: SupernetRun, figures: Mapping[str, Any]
) -> dict[str, Any]:
    """What a supernet file says about how it was made; no path of this machine."""
    return {
        **request,
        "data": Path(request["data"]).name,
        "split": "train",
        "images": [image.name for image in run.material.calibration],
        "bits": list(run.config.bits),
        "phases": dict(figures),
    }


def _start(
    config: TrainConfig, space: SearchSpace, material: Material, out: Path, seed: int, world: World
) -> SupernetRun:
    sam = load_sam(config.base or space.name)
    weights = {name: value.detach().clone() for name, value in sam.state_dict().items()}
    if config.task == "semantic":  # after the copy: the file names the base as it was loaded
        check_classes(material.train, material.validation)
        semantic_head(sam, material.train[0].classes, seed)
    inputs = calibration_inputs(sam.geometry, material.calibration)
    supernet = start_supernet(sam, config, inputs, seed=seed)
    return SupernetRun(supernet, config, space, material, out, seed, world, base_weights=weights)


def _material(data: str | Path, config: TrainConfig, exclude: Sequence[str], seed: int) -> Material:
    left_out = {*EXCLUDED_FROM_TRAINING, *exclude}
    train = read_pairs([p for p in find_pairs(data, split="train") if p.name not in left_out])
    pairs = find_pairs(data, split="val")
    if not pairs:
        raise DataError(f"{data}: no images in the split val; expected some to judge phases by")
    step = max(1, len(pairs) // config.validation.images)
    validation = read_pairs(pairs[::step][: config.validation.images])
    drawn = np.random.default_rng(seed).permutation(len(train))[: config.calibration_images]
    return Material(train, [train[i] for i in drawn], validation)


def _check(config: TrainConfig, space: SearchSpace) -> None:
    """Raise ConfigError for resolutions or bit-widths that the space does not have."""
    problems = []
    sides = next((g.options for g in space.genes if g.role == "resolution"), ())
    unknown = [b.resolution for b in config.batches if sides and b.resolution not in sides]
    if unknown:
        problems.append(f"batches at {unknown} px; the space has {list(sides)}")
    if sides and sides[-1] not in [b.resolution for b in config.batches]:
        problems.append(f"no batch at {sides[-1]} px, the largest of the space")
    known = {o for g in space.genes if g.role == "bits" for o in g.options}
    missing = [b for b in config.bits if known and b not in known]
    if missing:
        problems.append(f"bits {missing}; the space has {sorted(known)}")
    if problems:
        raise ConfigError(f"recipe for {space.name}: " + "; ".join(problems))
