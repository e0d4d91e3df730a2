"""`hwnas convert, train, evaluate`: making the models that are searched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.output import note, print_table

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
    weights: Annotated[Path, typer.Argument(help="DINOv2-layout .safetensors or .onnx file.")],
    out: Annotated[Path, typer.Option(help="File to write (.safetensors).")],
    data: Annotated[
        Path | None, typer.Option(help="Images on which to compare features with the original.")
    ] = None,
) -> None:
    """Convert a DINOv2-layout ViT to a segment_anything image encoder."""
    from hwnas.workflows.convert import convert

    _print_facts(convert(weights, out=out, data=data))


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
    seed: Seed = 0,
) -> None:
    """Sort a model by importance and set its quantization ranges: a post-training supernet."""
    from hwnas.workflows.prepare_supernet import prepare_supernet

    _print_facts(prepare_supernet(base, data=data, out=out, seed=seed))


def _evaluate(
    model: Annotated[str, typer.Argument(help="Model name or checkpoint.")],
    data: Data,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    prompt: Annotated[str, typer.Option(help="box or point.")] = "box",
    resolution: Annotated[int | None, typer.Option(help="Input side in pixels.")] = None,
) -> None:
    """Evaluate a full-precision model on a folder of images and masks."""
    from hwnas.workflows.evaluate_model import evaluate_model

    _print_facts(
        evaluate_model(model, data=data, split=split, prompt=prompt, resolution=resolution)
    )


def _print_facts(facts: object) -> None:
    """Print a result of named values, or the path that a workflow wrote."""
    if isinstance(facts, dict):
        print_table([{"what": key, "value": value} for key, value in facts.items()])
    elif facts is not None:
        note(str(facts))
