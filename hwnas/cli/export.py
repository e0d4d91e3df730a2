"""`hwnas export`: from a design to a folder that runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hwnas.cli.completion import complete_device, complete_space
from hwnas.cli.flags import Json, Quiet
from hwnas.cli.output import note, print_json, print_table
from hwnas.errors import ConfigError

if TYPE_CHECKING:
    from hwnas.export.card import Card
    from hwnas.workflows.export_source import ExportSource

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("export")(_export)


def _export(
    source: Annotated[
        str, typer.Argument(help="Run folder; or with --space largest, random:1, or JSON lines.")
    ],
    pick: Annotated[
        str | None,
        typer.Option(help="knee (default), an arch id or its beginning, or 'latency<=20'."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; must not exist.")] = None,
    format_: Annotated[
        str, typer.Option("--format", help="torch, onnx, tvm (for --device); several with commas.")
    ] = "torch,onnx",
    style: Annotated[str, typer.Option(help="ONNX for onnxruntime or tensorrt.")] = "onnxruntime",
    weights: Annotated[
        str, typer.Option(help="ONNX: int8, or int4 to store 4 bits and fewer as INT4.")
    ] = "int8",
    check: Annotated[
        bool, typer.Option("--check", help="Say how each layer will run on the device, and stop.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="Device profile.", autocompletion=complete_device)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Images to verify on; else the embedded picture.")
    ] = None,
    max_images: Annotated[int, typer.Option(help="Of each split at most.")] = 24,
    supernet: Annotated[str | None, typer.Option(help="Supernet by name or file.")] = None,
    space: Annotated[
        str | None,
        typer.Option(help="Space of designs out of a file.", autocompletion=complete_space),
    ] = None,
    seed: Annotated[int, typer.Option(help="For random:N.")] = 0,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export one design: networks, a runner, a card, a mask; verified against the supernet."""
    from hwnas.workflows.export_source import open_source

    opened = open_source(
        source, choice=pick, space=space, supernet=supernet, device=device,
        data=None if data is None else str(data), seed=seed,
    )  # fmt: skip
    if check:
        _check(opened, as_json=json_)
        return
    if out is None:
        raise ConfigError("--out: name the folder to write")
    from hwnas.cli.progress import progress
    from hwnas.workflows.export import export

    formats = [word for word in format_.split(",") if word]
    with progress(quiet=quiet or json_) as watch:
        exported = export(
            opened, out, formats=formats, style=style, storage=weights,
            data=opened.context.data_source, max_images=max_images, watch=watch,
        )  # fmt: skip
    _print(exported.card, as_json=json_)
    note(f"wrote {exported.folder}")


def _check(opened: ExportSource, *, as_json: bool) -> None:
    from dataclasses import asdict

    from hwnas.workflows.export import check_export

    fates, sentences = check_export(opened)
    if as_json:
        print_json({"layers": [asdict(fate) for fate in fates], "summary": list(sentences)})
        return
    print_table(
        [
            {
                "layer": fate.name, "bits w/a": f"{fate.w_bits}/{fate.a_bits}",
                "MMACs": fate.macs / 1e6, "runs": fate.fate, "as": fate.dtype,
                "weight bits in memory": fate.weight_bits_in_memory,
            }
            for fate in fates
        ]
    )  # fmt: skip
    _notes(sentences)
    _notes([fate.message for fate in fates if fate.message][:1])


def _print(card: Card, *, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        quality = [asdict(one) for one in card.quality]
        print_json({"arch_id": card.arch_id, "quality": quality, "checks": list(card.checks)})
        return
    print_table(
        [
            {
                "split": q.split, "prompt": q.prompt, "images": q.images, "objects": q.objects,
                "runtime": q.runtime, "IoU": q.iou, "standard error": q.standard_error,
                "supernet": q.supernet_iou,
            }
            for q in card.quality
        ]
    )  # fmt: skip
    _notes(card.checks)


def _notes(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        note(sentence)
