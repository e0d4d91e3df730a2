"""Pictures of masks on the page, beside one another, and as a file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hwnas.report.markup import Markup, element
from hwnas.report.mask_panels import png_bytes
from hwnas.report.png import new_figure, save_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MaskPanel", "MaskPictures", "MaskRow", "masks", "write_masks_png"]

_INCHES = 2.0  # of a panel in the file
_LINE = 32  # letters of a title on one line of it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskPanel:
    """One picture (h, w, 3) uint8; `title` says what it is, `caption` what came of it."""

    title: str
    pixels: NDArray[np.uint8]
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskRow:
    """One image in lines of equal length, None where a line has nothing in a column."""

    name: str
    lines: tuple[tuple[MaskPanel | None, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskPictures:
    """Rows of pictures and how to read them; or no rows, and in `words` why there are none."""

    words: str
    rows: tuple[MaskRow, ...] = ()


def masks(found: MaskPictures) -> tuple[Markup, ...]:
    """The section's parts: how to read the pictures, then each image; all within the page."""
    parts = [element("p", found.words, class_="quiet")]
    for row in found.rows:
        panels = [_figure(row.name, panel) for line in row.lines for panel in line]
        columns = str(max(len(line) for line in row.lines))
        parts += [
            element("h3", row.name),
            element("div", *panels, class_="pictures", style=f"--columns: {columns}"),
        ]
    return tuple(parts)


def _figure(name: str, panel: MaskPanel | None) -> Markup:
    if panel is None:
        return element("div", class_="gap")
    height, width = panel.pixels.shape[:2]
    content = base64.b64encode(png_bytes(panel.pixels)).decode("ascii")
    image = element(
        "img", src=f"data:image/png;base64,{content}", width=str(width), height=str(height),
        alt=f"{name}: {panel.title}",
    )  # fmt: skip
    words = element("figcaption", panel.title, element("small", panel.caption))
    return element("figure", image, words)


def write_masks_png(found: MaskPictures, path: Path) -> None:
    """Draw all rows as one picture, titles above and captions below; at least one row.

    Raises:
        RunError: the file cannot be written; an older one is untouched then.
    """
    lines = [(row.name, line) for row in found.rows for line in row.lines]
    columns = max(len(line) for _, line in lines)
    figure = new_figure(_INCHES * columns, (_INCHES + 0.45) * len(lines))
    axes = figure.subplots(len(lines), columns, squeeze=False)
    for (name, line), across in zip(lines, axes, strict=True):
        _draw_line(name, line, across)
    save_png(figure, path)


def _draw_line(name: str, line: Sequence[MaskPanel | None], axes: Sequence[Axes]) -> None:
    panels = [*line, *[None] * (len(axes) - len(line))]
    for axis, panel in zip(axes, panels, strict=True):
        axis.set_xticks([])
        axis.set_yticks([])
        if panel is None:
            axis.axis("off")
            continue
        axis.imshow(panel.pixels, interpolation="nearest")
        axis.set_title(fill(panel.title, _LINE), fontsize=8, parse_math=False)
        axis.set_xlabel(panel.caption, fontsize=8, parse_math=False)
    if panels[0] is not None:
        axes[0].set_ylabel(name, fontsize=7, parse_math=False)
