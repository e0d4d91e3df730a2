"""`hwnas blocks …`: libraries of blocks that are distilled one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.completion import complete_device, complete_space
from hwnas.cli.flags import Json, Quiet
from hwnas.cli.output import note, print_json, print_table

__all__ = ["app"]

app = typer.Typer(
    help="Block losses after DONNAv2: build a library, filter it, score networks by it.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(help="Folder of a library.")]
Data = Annotated[Path | None, typer.Option(help="Folder of annotated images.")]
Seed = Annotated[int, typer.Option(help="Seed.")]


@app.command("build")
def _build(
    data: Annotated[Path, typer.Option(help="Folder of images and masks, with train and val.")],
    out: Annotated[Path, typer.Option(help="Folder of the library.")],
    space: Annotated[
        str, typer.Option(help="A space of slots of blocks.", autocompletion=complete_space)
    ] = "sam-vit-t-blocks",
    supernet: Annotated[
        str | None, typer.Option(help="The teacher, name or file; the space's model by default.")
    ] = None,
    blocks: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of blocks to train, as 'vit-*-w8a8'; repeatable, all else."),
    ] = None,
    images: Annotated[int, typer.Option(help="Training images at most.")] = 128,
    held_out: Annotated[int, typer.Option(help="Validation images at most.")] = 32,
    steps: Annotated[int, typer.Option(help="Steps of a shape in floating point.")] = 60,
    finish: Annotated[int, typer.Option(help="Further steps of each of its bit-widths.")] = 20,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 8,
    lr: Annotated[float, typer.Option(help="Largest learning rate.")] = 1e-3,
    split_seed: Annotated[int | None, typer.Option(help="Draw the splits with this seed.")] = None,
    pack: Annotated[
        Path | None, typer.Option(help="Also write losses without weights into one JSON file.")
    ] = None,
    seed: Seed = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the library in --out.")
    ] = False,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train every block of a space on its teacher's features; resumes after any end."""
    from hwnas.blocks.distilling import Distillation
    from hwnas.cli.progress import progress
    from hwnas.workflows.blocks.build import build_blocks

    with progress(quiet=quiet or json_) as watch:
        built = build_blocks(
            space, data=data, out=out, supernet=supernet, blocks=blocks or (), images=images,
            held_out=held_out,
            how=Distillation(steps=steps, finish=finish, batch=batch, lr=lr),
            split_seed=split_seed, seed=seed, resume=resume, watch=watch,
        )  # fmt: skip
    if pack is not None:
        built.library.pack(pack)
    if json_:
        print_json({"trained": built.trained, "remarks": built.remarks, "slots": built.rows})
        return
    print_table(built.rows)
    note(f"wrote {out}: {len(built.library.blocks)} blocks, {built.trained} of them trained now")


@app.command("filter")
def _filter(
    library: Annotated[Path, typer.Argument(help="Folder of a library, or a packed one.")],
    device: Annotated[
        list[str], typer.Option(help="Device; repeatable.", autocompletion=complete_device)
    ],
    space: Annotated[
        str | None, typer.Option(help="Space of the library.", autocompletion=complete_space)
    ] = None,
    slowest: Annotated[float, typer.Option(help="Times the teacher's time a slot may take.")] = 1.0,
    tolerance: Annotated[
        float, typer.Option(help="Share of the loss by which a slower block must be better.")
    ] = 0.01,
    out: Annotated[
        Path | None, typer.Option(help="YAML file for what is left, as a space; one device only.")
    ] = None,
    details: Annotated[
        Path | None, typer.Option(help="JSON file for every block, kept or dropped, and why.")
    ] = None,
    json_: Json = False,
) -> None:
    """Drop blocks that are slow on a device, or beaten by another in both loss and time."""
    from hwnas.errors import ConfigError
    from hwnas.records.files import replace_text
    from hwnas.workflows.blocks.filter import filter_library

    if out is not None and len(device) > 1:
        raise ConfigError("--out takes the space of one device; filter them one by one")
    found = [
        filter_library(
            library, device=name, space=space, slowest=slowest, tolerance=tolerance, out=out
        )
        for name in device
    ]
    content = [one.to_json() for one in found]
    if details is not None:
        replace_text(details, json.dumps(content, indent=2) + "\n")
    if json_:
        print_json(content)
        return
    print_table([row for one in found for row in one.rows])
    for one in found:
        note(f"{one.device}: times are {one.fidelity}")
    if out is not None:
        note(f"wrote {out}; search it with `hwnas search --space {out}`")


@app.command("score")
def _score(
    library: Folder,
    data: Data = None,
    networks: Annotated[int, typer.Option(help="Random stitched networks in all.")] = 20,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also put each block alone into the teacher.")
    ] = False,
    iou: Annotated[bool, typer.Option("--iou", help="Also measure IoU of the networks.")] = False,
    tune: Annotated[
        int, typer.Option(help="Train each network as a whole for so many steps before.")
    ] = 0,
    max_images: Annotated[int, typer.Option(help="Images that networks are run on.")] = 16,
    split: Annotated[str, typer.Option(help="Which images.")] = "val",
    seed: Seed = 0,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run networks of random blocks and compare the order of every score with theirs."""
    from hwnas.cli.progress import progress
    from hwnas.workflows.blocks.score import score_library

    with progress(quiet=quiet or json_) as watch:
        scores = score_library(
            library, data=data, networks=networks, replace=replace, iou=iou, tune=tune,
            max_images=max_images, split=split, seed=seed, watch=watch,
        )  # fmt: skip
    content = scores.to_json()
    if json_:
        print_json(content)
        return
    print_table([{k: v for k, v in row.items() if k != "note"} for row in content["rows"]])
    for row in scores.rows:
        if row.note:
            note(f"{row.score}: {row.note}")
    note(
        f"{scores.networks} networks; blocks took {scores.block_seconds:.0f} s to train, a "
        f"stitched network {scores.network_seconds or 0:.2f} s to run"
    )


@app.command("finetune")
def _finetune(
    library: Folder,
    network: Annotated[str, typer.Option(help="One block a slot, by comma.")],
    data: Annotated[Path, typer.Option(help="Folder of images and masks, with train and val.")],
    out: Annotated[Path, typer.Option(help="File for the weights, .safetensors.")],
    steps: Annotated[int, typer.Option(help="Steps.")] = 200,
    batch: Annotated[int, typer.Option(help="Images a step.")] = 4,
    lr: Annotated[float, typer.Option(help="Largest learning rate.")] = 3e-4,
    images: Annotated[int, typer.Option(help="Training images at most.")] = 128,
    held_out: Annotated[int, typer.Option(help="Validation images at most.")] = 32,
    seed: Seed = 0,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network of blocks on as a whole, from the weights of its blocks."""
    from hwnas.cli.progress import progress
    from hwnas.workflows.blocks.finetune import finetune_network

    with progress(quiet=quiet or json_) as watch:
        done = finetune_network(
            library, blocks=tuple(filter(None, network.split(","))), data=data, out=out,
            steps=steps, batch=batch, lr=lr, images=images, held_out=held_out, seed=seed,
            watch=watch,
        )  # fmt: skip
    if json_:
        print_json(done.to_json())
        return
    print_table([
        {"": "as stitched", "nsr": done.nsr_before, "iou": done.iou_before},
        {"": "trained", "nsr": done.nsr, "iou": done.iou},
    ])  # fmt: skip
    note(f"wrote {out}")
