"""Options that many commands have, spelled and explained once."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["CostSettings", "Json", "Quiet", "RecipeSettings", "Resume"]

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the study in --out.")]
CostSettings = Annotated[
    list[str] | None,
    typer.Option("--set", help="cost.NAME.OPTION=VALUE or freeze.GENE=VALUE; repeatable."),
]
RecipeSettings = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE of the recipe, as adapter.rank=4; repeatable."),
]
