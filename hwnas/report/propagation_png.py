"""Pictures of a study of signal propagation: maps of blocks by projections, curves of losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.report.png import COLORS, new_figure, save_png

__all__ = ["write_error_png", "write_losses_png", "write_ratio_png"]

Map = NDArray[np.float64]
"""Of blocks by projections; cells that are not a number stay white."""


def write_error_png(
    maps: Mapping[str, Map], blocks: Sequence[int], projections: Sequence[str], path: Path,
    *, title: str,
) -> None:  # fmt: skip
    """Draw relative errors of gradients, one map for each key, all on one scale from zero.

    Raises:
        RunError: the file cannot be written.
    """
    from matplotlib.colors import Normalize

    finite = np.concatenate([m[np.isfinite(m)] for m in maps.values()])
    scale = Normalize(0.0, float(finite.max()) if finite.any() else 1.0)
    _draw(maps, blocks, projections, path, scale=scale, colors="viridis", show=lambda m: m,
          words=(title, "|g - g'| / |g'|, g' in floating point"))  # fmt: skip


def write_ratio_png(
    maps: Mapping[str, Map], blocks: Sequence[int], projections: Sequence[str], path: Path,
    *, title: str,
) -> None:  # fmt: skip
    """Draw ratios of gradient norms as their log2, white at 1, all on one scale.

    Raises:
        RunError: the file cannot be written.
    """
    from matplotlib.colors import Normalize

    def shown(values: Map) -> Map:
        known = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        return np.asarray(np.log2(known))

    found = np.concatenate([shown(m).ravel() for m in maps.values()])
    finite = np.abs(found[np.isfinite(found)])
    most = float(finite.max()) if finite.any() else 1.0
    _draw(maps, blocks, projections, path, scale=Normalize(-most, most), colors="RdBu_r",
          show=shown, words=(title, "log2 of |g| / |g'|, g' in floating point"))  # fmt: skip


def write_losses_png(
    curves: Mapping[str, Sequence[tuple[int, float, float | None]]], path: Path, *, title: str
) -> None:
    """Draw losses against steps, one line for each key, with deviations where they are known.

    Raises:
        RunError: the file cannot be written.
    """
    figure = new_figure(8.2, 4.6)
    axis = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        steps, losses = [point[0] for point in curve], np.array([point[1] for point in curve])
        spread = np.array([point[2] or 0.0 for point in curve])
        color = COLORS[number % len(COLORS)]
        axis.plot(steps, losses, label=name, color=color, marker="o", markersize=3, linewidth=1.3)
        axis.fill_between(steps, losses - spread, losses + spread, color=color, alpha=0.15)
    axis.set_xlabel("step")
    axis.set_ylabel("training loss (band: deviation over seeds)")
    axis.grid(visible=True, color="#eeeeee")
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    save_png(figure, path)


def _draw(
    maps: Mapping[str, Map], blocks: Sequence[int], projections: Sequence[str], path: Path, *,
    scale: Any, colors: str, show: Callable[[Map], Map], words: tuple[str, str],
) -> None:  # fmt: skip
    title, unit = words
    figure = new_figure(1.6 + 2.1 * len(maps), 1.4 + 0.26 * len(blocks))
    axes = figure.subplots(1, len(maps), squeeze=False, sharey=True)[0]
    for axis, (name, values) in zip(axes, maps.items(), strict=True):
        image = axis.imshow(show(values), norm=scale, cmap=colors, aspect="auto")
        axis.set_xticks(range(len(projections)), projections, fontsize=7)
        axis.set_yticks(range(len(blocks)), [str(block) for block in blocks], fontsize=7)
        axis.tick_params(length=0)
        axis.set_title(name, fontsize=9)
    axes[0].set_ylabel("block", fontsize=8)
    bar = figure.colorbar(image, ax=list(axes), pad=0.01)
    bar.set_label(unit, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    save_png(figure, path)
