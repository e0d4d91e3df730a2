"""A study of proxies as rows for a terminal, as Markdown, as JSON and as pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hwnas.report.proxies_png import Dot, write_proxies_png, write_scatter_png
from hwnas.workflows.study_log import StudyLog
from hwnas.workflows.study_proxies.depth import depth_bias
from hwnas.workflows.study_proxies.judge import Figure, Ranked

if TYPE_CHECKING:
    from hwnas.workflows.study_proxies.study import ProxyRow, ProxyStudy

__all__ = ["band_rows", "depth_rows", "markdown", "rows_of", "to_json", "write_proxies"]

Row = dict[str, object]


def rows_of(study: ProxyStudy) -> list[Row]:
    """One row a cost model or baseline, the best Kendall's tau first."""
    return [_row(row) for row in _ranking(study)]


def _row(row: ProxyRow) -> Row:
    judged, overall = row.judgement, row.judgement.overall
    return {
        "model": row.name,
        "quality is": "a count" if row.baseline else f"{row.better} with it",
        "Kendall tau": _bracketed(overall.kendall),
        "Spearman": _bracketed(overall.spearman),
        "in bands": _bracketed(judged.in_bands),
        "given size": _bracketed(judged.partial),
        f"top {overall.k} hit": _bracketed(overall.precision),
        f"best rank@{overall.picks}": _bracketed(overall.best_rank, 0),
        "points lost": _bracketed(overall.regret),
        "s each": "-" if row.seconds is None else f"{row.seconds:.2g}",
    }


def band_rows(study: ProxyStudy) -> list[Row]:
    """Kendall's tau of each model within each band of BitOPs; empty without bands."""
    return [
        {"model": row.name, **dict(zip(_band_names(study), map(_band, own), strict=True))}
        for row in _ranking(study)
        if (own := row.judgement.bands)
    ]


def _band(ranked: Ranked) -> str:
    return _bracketed(ranked.kendall)


def _band_names(study: ProxyStudy) -> list[str]:
    if study.gbitops is None:
        return []
    from hwnas.workflows.study_proxies.judge import bands_of

    n = len(study.rows[0].judgement.bands) if study.rows else 0
    found = []
    for rows in bands_of(study.gbitops, n) if n else ():
        low, high = study.gbitops[rows].min(), study.gbitops[rows].max()
        found.append(f"{low:.3g} to {high:.3g} GBitOPs (n={len(rows)})")
    return found


def depth_rows(study: ProxyStudy) -> list[Row]:
    """How quality and each model go with depth; empty where the layers are not known."""
    return [
        {
            "score": bias.name,
            "with depth": _bracketed(bias.with_depth),
            "at equal MACs": _bracketed(bias.at_equal_macs),
            f"mean depth of its top {bias.top}": f"{bias.depth_of_top:.1f}",
            "of all": f"{bias.depth_of_all:.1f}",
        }
        for bias in depth_bias(study)
    ]


def markdown(study: ProxyStudy) -> str:
    """The tables for people."""
    parts = [
        f"# Proxies of quality on {study.space}",
        "\n".join(f"- {note}" for note in study.notes),
        "\n".join(f"- {row.verdict}." for row in study.rows if row.verdict),
        "## Order of the subnets",
        _table(rows_of(study)),
        "`in bands`: mean Kendall tau within bands of equal BitOPs. `given size`: Spearman's rho "
        "with log params and log MACs taken out. `top k hit`: share of the best k among the k that "
        "score best. `best rank@k`: true rank of the best of the k that score best, `points lost`: "
        "by how much it is below the best of all.",
    ]
    bands = band_rows(study)
    if bands:
        parts += ["## Kendall tau within bands", _table(bands)]
    depths = depth_rows(study)
    if depths:
        parts += [
            "## Depth",
            _table(depths),
            "Spearman's rho with the number of layers with weights: a score that goes with it more "
            "than quality does prefers deep networks.",
        ]
    if study.failed:
        parts += ["## Left out", "\n".join(f"- {n}: {why}" for n, why in study.failed.items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_json(study: ProxyStudy) -> dict[str, Any]:
    """Plain data: everything that the study found."""
    labels = study.subnets
    return {
        "space": study.space,
        "subnets": {
            "source": labels.source, "n": len(labels), "outside": labels.outside,
            "metric": labels.metric, "prompt": labels.prompt, "splits": list(labels.splits),
            "supernets": list(labels.supernets),
        },
        "options": {
            "bands": len(study.rows[0].judgement.bands) if study.rows else 0,
            "bootstrap": study.options.bootstrap, "top": study.options.top,
            "seed": study.options.seed,
        },
        "bands": _band_names(study),
        "models": [_plain(row) for row in study.rows],
        "depth": [asdict(bias) for bias in depth_bias(study)],
        "failed": dict(study.failed),
        "notes": list(study.notes),
    }  # fmt: skip


def _plain(row: ProxyRow) -> dict[str, Any]:
    facts = {
        name: getattr(row, name)
        for name in ("name", "spec", "unit", "better", "baseline", "seconds", "verdict")
    }
    judged = asdict(row.judgement)
    return facts | judged | {"bands": list(judged["bands"])}


def write_proxies(study: ProxyStudy, log: StudyLog) -> None:
    """Write `proxies.json`, `proxies.md`, `proxies.png` and `proxies_scatter.png`.

    Raises:
        RunError: a file cannot be written.
    """
    log.write("proxies.json", json.dumps(to_json(study), indent=2, allow_nan=False) + "\n")
    log.write("proxies.md", markdown(study))
    title = f"{study.space}: order of {len(study.subnets)} subnets, {study.subnets.source}"
    write_proxies_png(
        {row.name: _dots(row) for row in _ranking(study)},
        [row.name for row in study.rows if row.baseline],
        log.path / "proxies.png",
        title=title,
    )
    write_scatter_png(
        {f"{row.name} ({row.unit})" if row.unit else row.name: row.values for row in study.rows},
        100 * study.subnets.iou,
        log.path / "proxies_scatter.png",
        color=study.gbitops,
        title=title,
    )


def _dots(row: ProxyRow) -> dict[str, Dot]:
    judged = row.judgement
    figures = {
        "Kendall tau": judged.overall.kendall,
        "mean Kendall tau within bands of BitOPs": judged.in_bands,
        "Spearman, size taken out": judged.partial,
    }
    return {name: _dot(f.value, f) for name, f in figures.items() if f.value is not None}


def _dot(value: float, figure: Figure) -> Dot:
    if figure.lo is None or figure.hi is None:
        return value, value, value
    return value, figure.lo, figure.hi


def _ranking(study: ProxyStudy) -> list[ProxyRow]:
    """Rows by falling Kendall's tau, undefined ones last."""

    def place(row: ProxyRow) -> tuple[bool, float]:
        tau = row.judgement.overall.kendall.value
        return tau is None, -(tau or 0.0)

    return sorted(study.rows, key=place)


def _bracketed(figure: Figure, digits: int = 2) -> str:
    if figure.value is None:
        return "-"
    value = f"{figure.value:.{digits}f}"
    if figure.lo is None or figure.hi is None:
        return value
    return f"{value} [{figure.lo:.{digits}f}, {figure.hi:.{digits}f}]"


def _table(rows: Sequence[Row]) -> str:
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([str(row[name]) for name in head] for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
