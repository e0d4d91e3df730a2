"""`hwnas search`, the main job, and `hwnas explain`, which says what it would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hwnas.cli.completion import complete_cost, complete_device, complete_space
from hwnas.cli.flags import CostSettings, Quiet
from hwnas.cli.measuring import Key, Rpc, Runner, Store, Tracker

__all__ = ["add_to"]

Space = Annotated[
    str | None,
    typer.Option(help="Name, file or module path of a space.", autocompletion=complete_space),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Device id, alias, id:mode, YAML file, or 'host'.", autocompletion=complete_device
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("search")(_search)


def _search(
    config: Annotated[
        Path | None, typer.Option(help="YAML file of a search; options override its keys.")
    ] = None,
    space: Space = None,
    device: Device = None,
    supernet: Annotated[
        str | None,
        typer.Option(
            "--supernet",
            "--checkpoint",
            help="Supernet file, or a SAM checkpoint (then in full precision only).",
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of images and masks.")] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="Cost model to optimize; repeatable.", autocompletion=complete_cost),
    ] = None,
    cost: Annotated[
        list[str] | None,
        typer.Option(
            help="One more cost model: name, ./file.py[:Name] or pkg.mod:Name; repeatable.",
            autocompletion=complete_cost,
        ),
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option(help="'NAME<=VALUE' or 'NAME>=VALUE'; repeatable.")
    ] = None,
    max_latency_ms: Annotated[float | None, typer.Option(help="Same as 'latency<=…'.")] = None,
    max_energy_mj: Annotated[float | None, typer.Option(help="Same as 'energy<=…'.")] = None,
    max_gbitops: Annotated[float | None, typer.Option(help="Same as 'bitops<=…'.")] = None,
    max_size_mb: Annotated[
        float | None, typer.Option(help="Same as 'model_size<=…', in 10^6 bytes.")
    ] = None,
    min_quality: Annotated[
        float | None, typer.Option(help="Same as 'quality>=…': mean IoU, between 0 and 1.")
    ] = None,
    limit_on: Annotated[
        str | None, typer.Option(help="pessimistic (default) or point: where limits hold.")
    ] = None,
    set_: CostSettings = None,
    algorithm: Annotated[str | None, typer.Option(help="nsga2, random or exhaustive.")] = None,
    start: Annotated[
        str | None,
        typer.Option(help="references (default), or exact: begin with the exact front of sums."),
    ] = None,
    population: Annotated[int | None, typer.Option(help="Designs a generation.")] = None,
    max_evaluations: Annotated[int | None, typer.Option(help="Designs to evaluate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search.")] = None,
    executor: Annotated[str | None, typer.Option(help="serial or processes.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes to spread evaluations on.")] = None,
    verify: Annotated[
        int | None, typer.Option(help="Measure so many designs of the front on the device.")
    ] = None,
    rpc: Rpc = None,
    tracker: Tracker = None,
    key: Key = None,
    runner: Runner = None,
    store: Store = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; must not exist. Default: runs/DATE-SPACE.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done and stop.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the front as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Search the Pareto front of a space on a device; writes a run folder with report.html."""
    from hwnas.cli.options import with_limits, with_settings
    from hwnas.cli.results import print_front
    from hwnas.config import make_measuring
    from hwnas.workflows.resolve import resolve_config

    overrides: dict[str, object] = {
        "space": space, "device": device, "supernet": supernet, "data": data,
        "objectives": objective, "costs": cost, "limit_on": limit_on, "algorithm": algorithm,
        "population": population, "max_evaluations": max_evaluations, "seed": seed,
        "executor": executor, "workers": workers, "verify": verify, "start": start,
    }  # fmt: skip
    device_options = {"rpc": rpc, "tracker": tracker, "key": key, "runner": runner, "store": store}
    given = {name: value for name, value in device_options.items() if value is not None}
    if given:
        overrides["measuring"] = make_measuring(**given).model_dump()
    aliases = {
        "latency<=": max_latency_ms, "energy<=": max_energy_mj, "bitops<=": max_gbitops,
        "model_size<=": None if max_size_mb is None else max_size_mb * 1e6,
        "quality>=": min_quality,
    }  # fmt: skip
    chosen = with_limits({k: v for k, v in overrides.items() if v is not None}, limit, aliases)
    resolved = resolve_config(config, with_settings(chosen, set_ or []))
    if dry_run:
        from hwnas.cli.inspection import print_explanation

        print_explanation(resolved, as_json=json_)
        return
    from hwnas.cli.progress import progress
    from hwnas.workflows.search import run_search

    with progress(quiet=quiet or json_) as watch:
        outcome = run_search(resolved, out=out, watch=watch)
    print_front(outcome, as_json=json_)
