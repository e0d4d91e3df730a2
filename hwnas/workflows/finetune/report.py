"""From the folder of a finished fine-tuning to report.html and masks.png."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hwnas.data.folder import find_pairs
from hwnas.errors import CheckpointError, DataError
from hwnas.report.curves import Points
from hwnas.report.finetuning import FinetuningReport, write_finetuning_html
from hwnas.report.masks import MaskPictures, write_masks_png
from hwnas.report.quantity import format_number
from hwnas.supernet.cut_encoder import cut_encoder
from hwnas.supernet.evaluation import PROMPT_KINDS
from hwnas.supernet.training.finetuning.kept import KeptRun, read_run
from hwnas.supernet.training.finetuning.opening import open_finetuned
from hwnas.supernet.training.finetuning.run import STAGE
from hwnas.supernet.training.finetuning.starting import open_base
from hwnas.workflows.mask_options import MaskOptions
from hwnas.workflows.masks import Pictured, mask_pictures, some_images

__all__ = ["write_finetuning_report"]

_IMAGES = 3


def write_finetuning_report(folder: Path, options: MaskOptions | None = None) -> tuple[Path, ...]:
    """Write report.html, and masks.png where there are pictures; returns the files written.

    The pictures need the base and the data. Where these are gone from where they were, the section
    says so; where `options` name others that cannot be used, it is an error.

    Raises:
        CheckpointError: no fine-tuning has been finished there, or the base is another.
        DataError: the data that `options` name cannot be used.
        ConfigError: an option of the pictures does not exist.
        RunError: a file cannot be written.
    """
    options = options or MaskOptions()
    run = read_run(folder)
    masks = None if options.images == 0 else _masks(run, options)
    html, png = folder / "report.html", folder / "masks.png"
    write_finetuning_html(_report(run, masks), html)
    if masks is None or not masks.rows:
        return (html,)
    write_masks_png(masks, png)
    return html, png


def _report(run: KeptRun, masks: MaskPictures | None) -> FinetuningReport:
    facts, request = run.facts, _request(run.folder)
    on = f"a subnet of {facts['base']}" if facts["arch"] else str(facts["base"])
    seconds = format_number(float(facts["seconds"]))
    return FinetuningReport(
        title=f"{facts['method']} on {on}",
        facts=(
            f"data {facts['data']}: {facts['images']['train']:,} images of train, "
            f"{facts['images']['val']:,} of val",
            *([f"kinds {', '.join(run.config.kinds)}"] if run.config.kinds else []),
            f"{facts['resolution']} px",
            f"{facts['steps']:,} steps in {seconds} s on {facts['device']}",
            f"seed {facts['seed']}",
        ),
        kinds=PROMPT_KINDS,
        iou=_states(facts["iou"]),
        charts=_charts(run.folder / "log.jsonl"),
        figures=_figures(facts),
        command=shlex.join(
            ["hwnas", "finetune", "--recipe", "recipe.yaml", "--data",
             str(request.get("data", facts["data"])), "--seed", str(facts["seed"]),
             *(word for name in facts["exclude"] for word in ("--exclude", name)),
             "--out", "runs/again"]
        ),
        recipe=yaml.safe_dump(dict(facts["recipe"]), sort_keys=False),
        masks=masks,
    )  # fmt: skip


def _states(iou: Mapping[str, Any]) -> dict[str, Mapping[str, float]]:
    names = {"before": "base", "quantized": "base, quantized", "after": "fine-tuned"}
    return {word: iou[key] for key, word in names.items() if iou.get(key) is not None}


def _figures(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    groups = ", ".join(f"{n:,} {name}" for name, n in facts["trainable_groups"].items())
    rows = [
        ("trainable parameters", f"{facts['trainable_parameters']:,} ({groups})"),
        ("adapters", f"{format_number(facts['adapter_bytes'] / 1e6)} MB"),
        ("other tensors", f"{format_number(facts['tuned_bytes'] / 1e6)} MB"),
        ("a step, median", f"{format_number(facts['seconds_per_step'])} s"),
        ("peak memory of the process", f"{format_number(facts['peak_rss_bytes'] / 1e9)} GB"),
    ]
    skipped = int(facts.get("skipped_steps", 0))
    return [*rows, *([("skipped steps", f"{skipped:,}")] if skipped else [])]


def _charts(path: Path) -> dict[str, dict[str, Points]]:
    """Curves of the log by what they are in; a line that a kill cut short is passed over."""
    charts: dict[str, dict[str, list[tuple[float, float]]]] = {}
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("stage") != STAGE:
            continue
        for key, value in entry.items():
            title = _title(key)
            if title is not None and isinstance(value, int | float):
                curve = charts.setdefault(title, {}).setdefault(key, [])
                curve.append((float(entry["step"]), float(value)))
    return {title: _distinct(charts[title]) for title in ("loss", "IoU") if title in charts}


def _distinct(found: Mapping[str, Points]) -> dict[str, Points]:
    """Curves without those that repeat an earlier one, such as the parts of a sum of one part."""
    kept: dict[str, Points] = {}
    for name, points in found.items():
        if points not in kept.values():
            kept[name] = points
    return kept


def _title(key: str) -> str | None:
    if key.startswith("val.") or key == "iou":
        return "IoU"
    return "loss" if key == "loss" or key.endswith("_loss") else None


def _masks(run: KeptRun, options: MaskOptions) -> MaskPictures:
    given = options.data is not None or options.base is not None
    try:
        kinds = run.config.kinds
        pairs = [
            pair
            for pair in find_pairs(_data(run, options), split="val")
            if kinds is None or pair.kind in kinds
        ]
        images = some_images(pairs, options.images or _IMAGES)
        models = _models(run, options)
    except (CheckpointError, DataError) as error:
        if given:
            raise
        return MaskPictures(
            words=f"Left out, as base or data cannot be used: {error}. Say where they are with "
            "--base and --data."
        )
    return mask_pictures(models, images, options)


def _models(run: KeptRun, options: MaskOptions) -> tuple[Pictured, Pictured]:
    tuned = open_finetuned(run.folder, base=options.base)  # compares the base first
    config = run.config
    if options.base is not None:
        config = config.model_copy(update={"base": options.base})
    base = open_base(config, lambda _: dict(run.facts["arch"]))
    model = base.sam if base.supernet is None else base.supernet
    return (
        Pictured("base", cut_encoder(model, base.plan), base.resolution),
        Pictured("fine-tuned", cut_encoder(tuned.student), tuned.resolution),
    )


def _data(run: KeptRun, options: MaskOptions) -> Path:
    if options.data is not None:
        return options.data
    recorded = _request(run.folder).get("data")
    if recorded is None or not Path(recorded).is_dir():
        raise DataError(f"the folder {recorded or run.facts['data']} of images is not there")
    return Path(recorded)


def _request(folder: Path) -> dict[str, Any]:
    """What the run was asked for; empty where that is not kept."""
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return dict(state["request"])
    except (OSError, ValueError, KeyError, TypeError):
        return {}
