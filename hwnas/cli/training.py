"""`hwnas train` and `hwnas pretrain`: supernets, and the models that they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.flags import Quiet, RecipeSettings

__all__ = ["add_to"]

TorchDevice = Annotated[str, typer.Option(help="cpu, or cuda: one GPU a process.")]
Trackers = Annotated[
    list[str] | None,
    typer.Option("--tracker", help="tensorboard, wandb or mlflow, too; repeatable."),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("train")(_train)
    app.command("pretrain")(_pretrain)


def _train(
    data: Annotated[Path, typer.Option(help="Folder of images and masks.")],
    out: Annotated[Path, typer.Option(help="Folder of the training run.")],
    recipe: Annotated[
        str, typer.Option(help="A YAML file, or the name of a recipe that ships.")
    ] = "sam-vit-t",
    space: Annotated[
        str | None, typer.Option(help="Search space, in place of the recipe's.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Checkpoint, in place of the recipe's.")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Layout: none, shared, selective or multiplex.")
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="arch_then_bits, bits_then_arch or joint.")
    ] = None,
    settings: RecipeSettings = None,
    exclude: Annotated[
        list[str] | None, typer.Option(help="Image to leave out of training; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    torch_device: TorchDevice = "cpu",
    shard: Annotated[
        bool, typer.Option("--shard", help="Share the optimizer's state between processes.")
    ] = False,
    tracker: Trackers = None,
    quiet: Quiet = False,
) -> None:
    """Train the supernet of a recipe; writes OUT/supernet.safetensors, resumes after any end."""
    from hwnas.cli.options import with_recipe_settings
    from hwnas.cli.output import print_table
    from hwnas.cli.progress import progress
    from hwnas.supernet.training.distributed import is_leader
    from hwnas.workflows.train import train_supernet

    given = {"space": space, "base": base, "adapter.layout": adapter, "order": order}
    overrides = with_recipe_settings(given, settings or ())
    leads = is_leader()
    with progress(quiet=quiet or not leads) as watch:
        done = train_supernet(
            recipe, data=data, out=out, overrides=overrides, exclude=exclude or (), seed=seed,
            resume=resume, device=torch_device, shard=shard, trackers=tracker or (), watch=watch,
        )  # fmt: skip
    if leads:
        print_table([{"phase": phase, **figures} for phase, figures in done.items()])


def _pretrain(
    name: Annotated[str, typer.Argument(help="sam-vit-t or sam-vit-s.")],
    data: Annotated[Path, typer.Option(help="Folder of images and masks.")],
    out: Annotated[Path, typer.Option(help="Folder of the training run.")],
    base: Annotated[Path | None, typer.Option(help="DINOv2-layout ViT-S weights.")] = None,
    start: Annotated[
        str | None,
        typer.Option(help="Weights to go on from with stages d and t2: a file or a name."),
    ] = None,
    stages: Annotated[
        str | None, typer.Option(help="Stages, as 's,t1'; all of the model by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed.")] = 0,
    minutes: Annotated[float | None, typer.Option(help="Stop after so many minutes.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    torch_device: TorchDevice = "cpu",
    shard: Annotated[
        bool, typer.Option("--shard", help="Share the optimizer's state between processes.")
    ] = False,
    tracker: Trackers = None,
    quiet: Quiet = False,
) -> None:
    """Train a small SAM on a folder of images and masks; resumes after any end."""
    from hwnas.cli.output import print_table
    from hwnas.cli.progress import progress
    from hwnas.supernet.training.distributed import is_leader
    from hwnas.workflows.pretrain import Pretraining, pretrain_model

    planned = tuple(s.strip() for s in stages.split(",")) if stages else ()
    leads = is_leader()
    with progress(quiet=quiet or not leads) as watch:
        done = pretrain_model(
            Pretraining(name, data, base, start, planned, seed, minutes),
            out=out, resume=resume, device=torch_device, shard=shard,
            trackers=tracker or (), watch=watch,
        )  # fmt: skip
    if leads:
        print_table([{"stage": stage, **figures} for stage, figures in done.items()])
