"""`hwnas convert, prepare, pack`: making the models that are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
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
    app.command("prepare")(_prepare)
    app.command("pack")(_pack)


def _convert(
    name: Annotated[str, typer.Argument(help="Model to build: sam-vit-s.")],
    base: Annotated[Path, typer.Option(help="DINOv2-layout .safetensors, .pth or .onnx file.")],
    out: Annotated[Path, typer.Option(help="File to write (.safetensors[.gz]).")],
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


def _prepare(
    base: Annotated[str, typer.Argument(help="Model name or checkpoint.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Supernet file to write (.safetensors[.gz]).")],
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


def _pack(
    source: Annotated[Path, typer.Argument(help="Supernet file, or weights of a model.")],
    out: Annotated[Path, typer.Option(help="File to write (.safetensors[.gz]).")],
    head_only: Annotated[
        bool, typer.Option("--head-only", help="Weights: leave the encoder out, but for its neck.")
    ] = False,
) -> None:
    """Make a small file: weights at 8 bits, or a supernet without its base, adapters at 8 bits."""
    from hwnas.workflows.pack import pack_file

    path = pack_file(source, out=out, head_only=head_only)
    sizes = f"{path.stat().st_size:,} bytes of {source.stat().st_size:,}"
    note(f"wrote {path}: {sizes}")


def _print_facts(facts: Mapping[str, object]) -> None:
    print_table([{"what": key, "value": value} for key, value in facts.items()])
