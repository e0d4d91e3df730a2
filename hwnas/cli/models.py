"""`hwnas convert, train, evaluate`: making the models that are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from hwnas.cli.output import note, print_json, print_table
from hwnas.errors import ConfigError

__all__ = ["add_to"]

Data = Annotated[Path, typer.Option(help="Folder of images and masks.")]
Seed = Annotated[int, typer.Option(help="Seed.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("convert")(_convert)
    app.command("train")(_train)
    app.command("evaluate")(_evaluate)
    app.command("prepare")(_prepare)


def _convert(
    name: Annotated[str, typer.Argument(help="Model to build: sam-vit-s.")],
    base: Annotated[Path, typer.Option(help="DINOv2-layout .safetensors, .pth or .onnx file.")],
    out: Annotated[Path, typer.Option(help="File to write (.safetensors).")],
    head: Annotated[
        Path | None, typer.Option(help="Neck and decoder; the shipped ones by default.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Images on which to compare features with the original.")
    ] = None,
) -> None:
    """Convert a DINOv2-layout ViT to a segment_anything model."""
    from hwnas.workflows.convert import convert_model

    done = convert_model(name, base=base, out=out, head=head, data=data)
    if done.agreement is not None:
        _print_facts(asdict(done.agreement))
    note(f"wrote {done.path}")


def _train(
    name: Annotated[str, typer.Argument(help="sam-vit-t or sam-vit-s.")],
    data: Data,
    base: Annotated[Path, typer.Option(help="DINOv2-layout ViT-S weights.")],
    out: Annotated[Path, typer.Option(help="Folder of the training run.")],
    seed: Seed = 0,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
) -> None:
    """Train a small SAM on a folder of images and masks; resumes after any end."""
    from hwnas.workflows.train import train_model

    _print_facts(
        train_model(name, data=data, base=base, out=out, seed=seed, resume=resume, minutes=minutes)
    )


def _prepare(
    base: Annotated[str, typer.Argument(help="Model name or checkpoint.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Supernet file to write (.safetensors).")],
    images: Annotated[int, typer.Option(help="Images to calibrate on.")] = 32,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Image to leave out, by name; repeatable.")
    ] = None,
    with_base: Annotated[
        bool, typer.Option(help="Put the weights into the file; else the base stays beside it.")
    ] = True,
    seed: Seed = 0,
) -> None:
    """Sort a model by importance and set its quantization ranges: a post-training supernet."""
    from hwnas.workflows.prepare_supernet import prepare_supernet

    path = prepare_supernet(
        base, data=data, out=out, images=images, exclude=exclude or (), with_base=with_base,
        seed=seed,
    )  # fmt: skip
    note(f"wrote {path}")


def _evaluate(
    model: Annotated[str, typer.Argument(help="Model name, checkpoint, or 'baselines'.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of images and masks; else the embedded picture.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="train, val or test, where there is a split.csv.")
    ] = "val",
    prompt: Annotated[
        list[str] | None, typer.Option(help="box or point; repeatable, both by default.")
    ] = None,
    resolution: Annotated[
        list[int] | None, typer.Option(help="Input side in pixels; repeatable.")
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Evaluate a full-precision model, or methods without learning, on images with masks."""
    from hwnas.workflows.evaluate_model import evaluate_baselines, evaluate_model

    if model == "baselines":
        scores = evaluate_baselines(data=data, split=split)
    else:
        scores = evaluate_model(
            model,
            data=data,
            split=split,
            resolutions=resolution or None,
            prompts=[_prompt(p) for p in prompt or ("box", "point")],
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


def _prompt(word: str) -> Literal["box", "point"]:
    words: dict[str, Literal["box", "point"]] = {"box": "box", "point": "point"}
    if word not in words:
        raise ConfigError(f"--prompt {word}: expected box or point")
    return words[word]


def _print_facts(facts: Mapping[str, object]) -> None:
    print_table([{"what": key, "value": value} for key, value in facts.items()])
