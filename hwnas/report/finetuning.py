"""report.html of a fine-tuning: quality before and after, curves, pictures of masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwnas.records.files import replace_text
from hwnas.report.curves import Points, curves
from hwnas.report.document import document, section
from hwnas.report.markup import Markup, element, join
from hwnas.report.masks import MaskPictures, masks
from hwnas.report.tables import plain_table

__all__ = ["FinetuningReport", "finetuning_html", "write_finetuning_html"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuningReport:
    """What the page shows.

    Attributes:
        title: What was fine-tuned how.
        facts: The run in a few phrases.
        kinds: Kinds of prompts, the columns of `iou`.
        iou: IoU on the validation split by kind, for each state of the model, in order.
        charts: Curves of points (step, value) by name, for each chart by its title.
        figures: Name and value of whatever else is known in numbers.
        command: What repeats the run, given `recipe` as a file.
        recipe: The recipe, as YAML.
        masks: Pictures, or why there are none; None if they are not wanted.
    """

    title: str
    facts: tuple[str, ...]
    kinds: tuple[str, ...]
    iou: Mapping[str, Mapping[str, float]]
    charts: Mapping[str, Mapping[str, Points]]
    figures: Sequence[tuple[str, str]]
    command: str
    recipe: str
    masks: MaskPictures | None = None


def write_finetuning_html(data: FinetuningReport, path: Path) -> None:
    """Write the page; an older one is replaced whole.

    Raises:
        RunError: the file cannot be written; an older one is untouched then.
    """
    replace_text(path, finetuning_html(data))


def finetuning_html(data: FinetuningReport) -> str:
    """The whole page as text; it has no script."""
    main = element(
        "main",
        element(
            "header",
            element("h1", data.title),
            element("p", " \N{MIDDLE DOT} ".join(data.facts), class_="quiet"),
        ),
        section("Before and after", _scores(data)),
        section("Training", *_charts(data)),
        section("Masks", *masks(data.masks)) if data.masks else Markup(),
        section("In numbers", plain_table(("figure", "value"), list(data.figures))),
        section("Repeat this run", _repeat(data)),
    )
    return document(data.title, main)


def _scores(data: FinetuningReport) -> Markup:
    """IoU of each state; the last row is what fine-tuning has gained over the first."""
    heads = ("model", *(f"IoU, {kind} prompts" for kind in data.kinds))
    rows = [
        (state, *(f"{iou[kind]:.4f}" if kind in iou else "n/a" for kind in data.kinds))
        for state, iou in data.iou.items()
    ]
    states = list(data.iou.values())
    first, last = states[0], states[-1]
    gains = [
        f"{last[kind] - first[kind]:+.4f}" if kind in first and kind in last else "n/a"
        for kind in data.kinds
    ]
    words = (
        "Intersection over union on the split val, the mean over images of the mean over their "
        "objects. The base is the model before fine-tuning."
    )
    return join(element("p", words, class_="quiet"), plain_table(heads, [*rows, ("gain", *gains)]))


def _charts(data: FinetuningReport) -> tuple[Markup, ...]:
    if not data.charts:
        return (element("p", "The log of the training is not there.", class_="quiet"),)
    drawn = [
        element("div", element("h3", title), curves(found, across="step", label=title))
        for title, found in data.charts.items()
    ]
    return (element("div", *drawn, class_="curves"),)


def _repeat(data: FinetuningReport) -> Markup:
    return join(
        element("pre", data.command, class_="command"),
        element("details", element("summary", "recipe.yaml"), element("pre", data.recipe)),
    )
