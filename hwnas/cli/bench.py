"""`hwnas bench …`: speed, as ratios measured side by side in one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.flags import Json, Quiet
from hwnas.cli.output import print_json, print_table
from hwnas.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)

Space = Annotated[str, typer.Option(help="Space to draw designs from.")]
Device = Annotated[str, typer.Option(help="Device of the latency estimate.")]


@app.command("costs")
def _costs(
    space: Space = "sam-vit-t",
    device: Device = "jetson-orin",
    designs: Annotated[int, typer.Option(help="Size of the population.")] = 100_000,
    repeats: Annotated[int, typer.Option(help="Timed passes; the median is printed.")] = 5,
    json_: Json = False,
) -> None:
    """Designs per second of BitOPs + size + latency on whole populations."""
    from hwnas.workflows.bench import bench_costs

    rows = bench_costs(space=space, device=device, designs=designs, repeats=repeats)
    print_json(rows) if json_ else print_table(rows)


@app.command("predictor")
def _predictor(
    space: Space = "sam-vit-t",
    device: Annotated[str, typer.Option(help="Device whose predictor is timed.")] = "host",
    designs: Annotated[int, typer.Option(help="Size of the population.")] = 100_000,
    repeats: Annotated[int, typer.Option(help="Timed passes; the median is printed.")] = 5,
    json_: Json = False,
) -> None:
    """Designs per second of the latency predictor on whole populations."""
    from hwnas.workflows.bench_predictor import bench_predictor

    rows = bench_predictor(space=space, device=device, designs=designs, repeats=repeats)
    print_json(rows) if json_ else print_table(rows)


@app.command("search")
def _search(
    space: Space = "sam-vit-t",
    device: Device = "jetson-orin",
    evaluations: Annotated[int, typer.Option(help="Evaluations of our NSGA-II.")] = 20_000,
    baseline_evaluations: Annotated[int, typer.Option(help="Evaluations of the baseline.")] = 1_000,
    json_: Json = False,
) -> None:
    """Evaluations per second of NSGA-II against pymoo's defaults, one design at a time."""
    from hwnas.workflows.bench import bench_search

    rows = bench_search(
        space=space,
        device=device,
        evaluations=evaluations,
        baseline_evaluations=baseline_evaluations,
    )
    print_json(rows) if json_ else print_table(rows)


@app.command("training")
def _training(
    space: Space = "sam-vit-b",
    ways: Annotated[
        str, typer.Option(help="multiplex, selective, shared, none, qfa; ratios are to the last.")
    ] = "multiplex,qfa,none",
    resolution: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 448,
    images: Annotated[int, typer.Option(help="Images a step.")] = 1,
    steps: Annotated[int, typer.Option(help="Timed steps; the median is printed.")] = 3,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Recompute each block in backward.")
    ] = False,
    torch_device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_: Json = False,
) -> None:
    """Peak memory and seconds of a training step, by what is trained."""
    from hwnas.workflows.bench_training import bench_training

    rows = bench_training(
        space, ways=[w.strip() for w in ways.split(",")], resolution=resolution, images=images,
        steps=steps, checkpoint_blocks=recompute, device=torch_device,
    )  # fmt: skip
    print_json(rows) if json_ else print_table(rows)


@app.command("deploy")
def _deploy(
    source: Annotated[
        str, typer.Argument(help="Run folder; or with --space largest, random:1, or JSON lines.")
    ],
    pick: Annotated[
        list[str] | None, typer.Option(help="As for hwnas export; repeatable. Default: the knee.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="Space of designs out of a file.")] = None,
    supernet: Annotated[str | None, typer.Option(help="Supernet by name or file.")] = None,
    device: Annotated[
        str | None, typer.Option(help="This machine's profile; default: the run's, else host.")
    ] = None,
    runtimes: Annotated[
        str | None,
        typer.Option(help="Of torch, onnxruntime, openvino, tvm; default: what is installed."),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Of full precision and W8A8, in pixels; default: largest.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Of every runtime.")] = 1,
    rounds: Annotated[int, typer.Option(help="Turns that every network takes.")] = 15,
    data: Annotated[Path | None, typer.Option(help="Annotated images, for IoU.")] = None,
    split: Annotated[str, typer.Option(help="Of the images.")] = "test",
    max_images: Annotated[int | None, typer.Option(help="Of the split at most.")] = None,
    max_prompts: Annotated[int, typer.Option(help="Objects of an image at most.")] = 12,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Where no weights are at hand; no IoU.")
    ] = False,
    seed: Annotated[int, typer.Option(help="For random:N, prompts, random weights.")] = 0,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Designs in three runtimes, beside the full network at 8 bits and, in torch too, in float."""
    from hwnas.cli.progress import progress
    from hwnas.workflows.bench_deploy import DeployBench, DesignChoice, bench_deploy

    choice = DesignChoice(source, tuple(pick or ()), space, supernet, device, random_weights, seed)
    options = DeployBench(
        runtimes=None if runtimes is None else tuple(r.strip() for r in runtimes.split(",")),
        resolution=resolution, threads=threads, rounds=rounds, data=data, split=split,
        max_images=max_images, max_prompts=max_prompts,
    )  # fmt: skip
    with progress(quiet=quiet or json_) as watch:
        rows = bench_deploy(choice, options, watch=watch)
    print_json(rows) if json_ else print_table(rows)


@app.command("finetune")
def _finetune(
    base: Annotated[str, typer.Option(help="Model whose shapes are taken.")] = "sam-vit-t",
    methods: Annotated[
        str | None,
        typer.Option(
            help="Adapters, losa, lst, res_bypass, bitfit, full, decoder; default: a choice."
        ),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the images in pixels; default: the largest.")
    ] = None,
    images: Annotated[int, typer.Option(help="Images a step.")] = 2,
    steps: Annotated[int, typer.Option(help="Timed steps; the median is printed.")] = 3,
    rank: Annotated[int, typer.Option(help="Size of adapters, as the rank of a LoRA.")] = 8,
    torch_device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json_: Json = False,
) -> None:
    """Peak memory and seconds of a fine-tuning's step, by method; ratios are to lora."""
    from hwnas.workflows.bench_finetune import METHODS, bench_finetune

    rows = bench_finetune(
        base, methods=METHODS if methods is None else [m.strip() for m in methods.split(",")],
        resolution=resolution, images=images, steps=steps, rank=rank, device=torch_device,
    )  # fmt: skip
    print_json(rows) if json_ else print_table(rows)


@app.command("switching")
def _switching(
    base: Annotated[
        str, typer.Option(help="Model or checkpoint; random weights where none are shipped.")
    ] = "sam-vit-t",
    densities: Annotated[str, typer.Option(help="Shares of entries of SHiRA.")] = "0.01,0.02",
    rank: Annotated[int, typer.Option(help="Rank of LoRA.")] = 8,
    bits: Annotated[str, typer.Option(help="Widths of codes, beside float32.")] = "8,4",
    rounds: Annotated[int, typer.Option(help="Timed rounds; the median is printed.")] = 20,
    json_: Json = False,
) -> None:
    """One adapter exchanged for another in place: sparse writes against adding a LoRA."""
    from hwnas.workflows.bench_switching import bench_switching

    rows = bench_switching(
        base, densities=_numbers(densities, "--densities"), rank=rank,
        bits=[int(width) for width in _numbers(bits, "--bits")], rounds=rounds,
    )  # fmt: skip
    print_json(rows) if json_ else print_table(rows)


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(f"{option} {text}: expected numbers with commas, as 8,4") from None


@app.command("kernels")
def _kernels(
    kernel: Annotated[
        list[str] | None, typer.Option(help="Key of a kernel; repeat for more. Default: a choice.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Rounds in which the engines take turns.")] = 20,
    seconds: Annotated[float, typer.Option(help="Time for the rounds of one kernel.")] = 3.0,
    json_: Json = False,
) -> None:
    """Our TVM kernels against PyTorch and ONNX Runtime, one thread, minima of one run."""
    from hwnas.workflows.bench_kernels import KERNELS, bench_kernels

    rows = bench_kernels(kernel or KERNELS, rounds=rounds, seconds=seconds)
    print_json(rows) if json_ else print_table(rows)


@app.command("bits")
def _bits(
    space: Annotated[str, typer.Option(help="Space whose largest design is timed.")] = "sam-vit-t",
    device: Annotated[str, typer.Option(help="Profile of this machine.")] = "host",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="GENE=VALUE, as resolution=448; repeatable.")
    ] = None,
    shapes: Annotated[int, typer.Option(help="How many products with a weight.")] = 4,
    prompts: Annotated[int, typer.Option(help="Prompts in the time of the network.")] = 1,
    seconds: Annotated[float, typer.Option(help="Time for the rounds of one subject.")] = 3.0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of compiled kernels; default: kept nowhere.")
    ] = None,
    json_: Json = False,
) -> None:
    """Products, attention and the network at 8, 4 and 2 bits against float32, beside BitOPs."""
    from hwnas.cli.options import with_recipe_settings
    from hwnas.workflows.bench_bits import bench_bits

    rows = bench_bits(
        space, device=device, freeze=with_recipe_settings({}, set_ or ()), shapes=shapes,
        prompts=prompts, seconds=seconds, cache=cache,
    )  # fmt: skip
    print_json(rows) if json_ else print_table(rows)
