"""`hwnas finetune`: a model, or one subnet, on a data set of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hwnas.cli.flags import Json, Quiet, RecipeSettings
from hwnas.errors import ConfigError

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("finetune")(_finetune)


def _finetune(
    data: Annotated[Path, typer.Option(help="Folder of images and masks.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    base: Annotated[
        str | None, typer.Option(help="Shipped name or checkpoint; sam-vit-t by default.")
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            help="Adapter (hwnas adapters list), losa, lst, res_bypass (beside the encoder), "
            "or bitfit, full, decoder; lora by default."
        ),
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="A YAML file.")] = None,
    arch: Annotated[
        str | None,
        typer.Option(help="One subnet of the base's supernet: largest, or a file with one."),
    ] = None,
    train_decoder: Annotated[
        bool, typer.Option("--train-decoder", help="Train the mask decoder, too.")
    ] = False,
    bits: Annotated[
        str | None, typer.Option(help="Train under quantizers: bits of weights and inputs, as 4,8.")
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(help="Rows to freeze: o, v, ov, qk or qkv (ov-freeze).")
    ] = None,
    resolution: Annotated[int | None, typer.Option(help="Input side in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of training.")] = None,
    settings: RecipeSettings = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Image to leave out.")] = None,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    torch_device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    tracker: Annotated[
        list[str] | None, typer.Option(help="tensorboard, wandb or mlflow, too; repeatable.")
    ] = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a model with an adapter; writes it into OUT, resumes after any end."""
    from hwnas.cli.options import with_recipe_settings
    from hwnas.cli.output import print_json
    from hwnas.cli.progress import progress
    from hwnas.supernet.training.distributed import is_leader
    from hwnas.workflows.finetune import finetune

    given = {
        "base": base, "adapter.kind": adapter, "arch": arch, "freeze.rows": freeze,
        "train_decoder": train_decoder or None, "resolution": resolution, "steps": steps,
        **_bits(bits),
    }  # fmt: skip
    leads = is_leader()
    with progress(quiet=quiet or json_ or not leads) as watch:
        done = finetune(
            recipe, data=data, out=out, overrides=with_recipe_settings(given, settings or ()),
            exclude=exclude or (), seed=seed, resume=resume, device=torch_device,
            trackers=tracker or (), watch=watch,
        )  # fmt: skip
    if leads and json_:
        print_json(done)
    elif leads:
        _print(done)


def _bits(text: str | None) -> dict[str, object]:
    if text is None:
        return {}
    words = [word.strip() for word in text.split(",")]
    if len(words) != 2 or not all(word.isdigit() for word in words):
        raise ConfigError(f"--bits {text}: expected bits of weights and of inputs, as 4,8")
    w_bits, a_bits = map(int, words)
    return {"quantizer.w_bits": w_bits, "quantizer.a_bits": a_bits}


def _print(done: Mapping[str, Any]) -> None:
    from hwnas.cli.output import note, print_table

    rows = [
        {"model": when, **{f"IoU {kind}": value for kind, value in iou.items()}}
        for when, iou in done["iou"].items()
        if iou is not None
    ]
    print_table(rows)
    note(
        f"{done['method']}: {done['trainable_parameters']:,} trainable parameters, "
        f"{done['adapter_bytes']:,} bytes of adapters, {done['tuned_bytes']:,} of other tensors; "
        f"{done['steps']} steps of {done['seconds_per_step']:.3g} s"
    )
