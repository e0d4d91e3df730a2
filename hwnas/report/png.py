"""What the pictures share: figures that need no display, colors, and files that are whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.records.files import explained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "BLUE", "COLORS", "GRAY", "GREEN", "ORANGE", "PURPLE", "VERMILION", "new_figure", "save_png",
]  # fmt: skip

# Okabe and Ito, Color Universal Design (2008): told apart by most color-blind readers.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, _SKY, _BLACK, GRAY = "#E69F00", "#56B4E9", "#000000", "#999999"
COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, _SKY, _BLACK, GRAY)
"""Colors of lines, in the order of use."""


def new_figure(width: float, height: float, *, dpi: int = 130) -> Figure:
    """Return an empty figure of so many inches, without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises:
        RunError: the file cannot be written; an older one is untouched then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained("write", path):
        figure.savefig(temporary, format="png", metadata={"Software": None})
        temporary.replace(path)
