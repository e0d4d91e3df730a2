"""`hwnas evaluate`: the quality of a model, of subnets, and of methods without learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hwnas.cli.flags import Json, Quiet
from hwnas.cli.output import note, print_json, print_table
from hwnas.errors import ConfigError

if TYPE_CHECKING:
    from hwnas.supernet.evaluation import PromptKind

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("evaluate")(_evaluate)


def _evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="Model or supernet by name or file, a folder of finetune, or 'baselines'."
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of annotated images; else the embedded picture.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test, where there are splits.")] = "val",
    split_seed: Annotated[
        int | None, typer.Option(help="Draw the splits with this seed instead.")
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="box, point, or none (semantic); repeatable. Default: box and point."),
    ] = None,
    resolution: Annotated[
        list[int] | None, typer.Option(help="Input side in pixels; repeatable without --archs.")
    ] = None,
    archs: Annotated[
        str | None,
        typer.Option(help="Subnets: largest, random:N, a run folder, front.csv, or JSON lines."),
    ] = None,
    space: Annotated[str | None, typer.Option(help="Space of the subnets.")] = None,
    adapter: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder that hwnas finetune has made of the model; repeatable, they add up."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="For random:N, images and objects.")] = 0,
    max_images: Annotated[int | None, typer.Option(help="Score at most so many images.")] = None,
    max_prompts: Annotated[
        int | None, typer.Option(help="Prompt at most so many objects of an image.")
    ] = None,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="Keep images without objects.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="JSONL file, one line for each subnet and prompt.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue --out.")] = False,
    torch_device: Annotated[str, typer.Option(help="cpu or cuda, with --archs.")] = "cpu",
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate a full-precision model, given subnets, or methods without learning."""
    if adapter and (archs is not None or model == "baselines"):
        raise ConfigError(
            "--adapter: belongs to a full-precision model; name that, without --archs"
        )
    if archs is not None:
        from hwnas.cli.progress import progress
        from hwnas.workflows.evaluate.subnets import evaluate_subnets

        if resolution and len(resolution) > 1:
            raise ConfigError("--resolution: one at most with --archs; subnets have their own")
        with progress(quiet=quiet or json_) as watch:
            lines = evaluate_subnets(
                model, archs=archs, data=data, split=split, split_seed=split_seed,
                prompts=prompt or ("box", "point"), resolution=next(iter(resolution or ()), None),
                space=space, seed=seed, max_images=max_images, max_prompts=max_prompts,
                allow_empty=allow_empty, out=out, resume=resume, torch_device=torch_device,
                watch=watch,
            )  # fmt: skip
        _print_subnets(lines, as_json=json_)
        if out is not None:
            note(f"wrote {out}")
        return
    if out is not None or resume or space is not None:
        raise ConfigError("--out, --resume, --space: for subnets only; name them with --archs")
    from hwnas.workflows.evaluate.model import evaluate_baselines, evaluate_model

    images: dict[str, Any] = {
        "data": data, "split": split, "split_seed": split_seed, "max_images": max_images,
        "seed": seed, "allow_empty": allow_empty,
    }  # fmt: skip
    if model == "baselines":
        scores = evaluate_baselines(**images)
    else:
        scores = evaluate_model(
            model,
            resolutions=resolution or None,
            prompts=[_prompt(p) for p in prompt or ("box", "point")],
            max_instances=max_prompts,
            adapters=adapter or (),
            **images,
        )
    if json_:
        print_json([asdict(score) for score in scores])
        return
    print_table(
        [
            {
                "model": s.method, "prompt": s.prompt, "resolution px": s.resolution,
                "images": s.images, "objects": s.objects, "IoU, mean over images": s.iou,
                "standard error": s.error, "IoU, mean over objects": s.iou_objects,
            }
            for s in scores
        ]
    )  # fmt: skip


def _print_subnets(lines: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(list(lines))
        return
    print_table(
        [
            {
                "arch": line["arch_id"], "prompt": line["prompt"], "images": line["images"],
                "objects": line["objects"], "IoU": line["iou"], "standard error": line["error"],
                "boundary IoU": line["boundary_iou"], "bitops GBitOPs": line["bitops"],
                "system_bitops GBitOPs": line["system_bitops"],
            }
            for line in lines
        ]
    )  # fmt: skip


def _prompt(word: str) -> PromptKind:
    words: dict[str, PromptKind] = {"box": "box", "point": "point"}
    if word not in words:
        raise ConfigError(
            f"--prompt {word}: expected box or point"
            + ("; none is for subnets with --archs" if word == "none" else "")
        )
    return words[word]
