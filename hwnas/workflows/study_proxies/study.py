"""Proxies of quality judged by evaluated subnets, beside what a count of the network tells.

Source: the project's specification of cost models, sections 8.3 to 8.5: counts are strong baselines
on spaces of transformers, and proxies that are good on one task point the wrong way on another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostContext, build
from hwnas.cost.proxies import Counts, quality_sign
from hwnas.device import find
from hwnas.errors import ConfigError, SpaceError
from hwnas.space import SearchSpace, load_space
from hwnas.workflows.context import make_context
from hwnas.workflows.study_log import StudyLog
from hwnas.workflows.study_memory import keep_inside, open_records
from hwnas.workflows.study_proxies.costs import (
    BASELINES,
    Judged,
    build_judged,
    check_weights,
    learned_from,
)
from hwnas.workflows.study_proxies.judge import Judgement, Trial, bands_of, judge
from hwnas.workflows.study_proxies.options import ProxyOptions
from hwnas.workflows.study_proxies.scores import Scores, ask_all
from hwnas.workflows.study_proxies.subnets import FEWEST, Subnets, read_labels, shipped_subnets
from hwnas.workflows.watch import Silent, Watch

__all__ = ["ProxyRow", "ProxyStudy", "study_proxies"]

Float = NDArray[np.float64]
_BANDS = 4


@dataclass(frozen=True)
class ProxyRow:
    """One cost model or baseline: its values for the subnets (n,) and what is said of them.

    `better` says whether quality is taken to be `higher` or `lower` where the value is higher.
    """

    name: str
    spec: str
    unit: str
    better: str
    baseline: bool
    seconds: float | None
    values: Float
    judgement: Judgement
    verdict: str


@dataclass(frozen=True)
class ProxyStudy:
    """What a study found; `failed` are cost models with the reason why they have no row."""

    space: str
    subnets: Subnets
    gbitops: Float | None
    options: ProxyOptions
    rows: tuple[ProxyRow, ...]
    failed: Mapping[str, str]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in `proxies.json`."""
        from hwnas.workflows.study_proxies.tables import to_json

        return to_json(self)


def study_proxies(  # noqa: PLR0913 - one keyword for each option of the command
    space: str | SearchSpace = "sam-vit-t",
    *,
    subnets: str | Path | None = None,
    device: str | None = None,
    supernet: str | Path | None = None,
    data: str | Path | None = None,
    options: ProxyOptions | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> ProxyStudy:
    """Compare the order of cost models with that of measured quality, and with three baselines.

    Args:
        space: name or file of the space that the subnets are of, or the space.
        subnets: JSONL of `hwnas evaluate --archs`; by default those that ship for the space.
        device: name or file of a device, for cost models that need one.
        supernet: name or file, for those that look at weights; by default the space's own.
        data: folder of images and masks, for those that look at images.
        options: everything else.
        out: folder for `measurements.jsonl`, `proxies.json`, `proxies.md`, `proxies.png` and
            `proxies_scatter.png`; nothing is written without.
        resume: continue the study in `out`; more cost models and subnets may be added.
        watch: told where the study stands.

    Raises:
        ConfigError: options or cost models do not fit the space.
        CostError: none of the cost models could be evaluated.
        RunError: the folder exists, or was begun with another space.
        Interrupted: Ctrl-C; what was evaluated is saved.
        HwnasError: space, subnets, device, supernet or data cannot be loaded.
    """
    options, watch, live = options or ProxyOptions(), watch or Silent(), load_space(space)
    labels = read_labels(subnets or shipped_subnets(live), live, options.prompt)
    bands = _bands(options, len(labels))
    context = make_context(
        live, device=None if device is None else find(device),
        supernet=None if supernet is None else str(supernet),
        data=None if data is None else str(data), seed=options.seed,
    )  # fmt: skip
    judged = build_judged(options.costs, context, options.options or {})
    knowing = learned_from(judged, labels)
    check_weights(judged, labels)
    settings = {"study": "proxies", "space": live.name}
    with open_records(out, lambda: settings, resume=resume) as records:
        keep_inside({one.name: one.model for one in judged}, records)
        scores, failed = ask_all(judged, labels.archs, records, watch)
        study = _judged(live.name, labels, context, judged, scores, failed, options, bands)
        study = replace(study, notes=(*study.notes, *knowing))
        if isinstance(records, StudyLog):
            from hwnas.workflows.study_proxies.tables import write_proxies

            write_proxies(study, records)
    return study


def _bands(options: ProxyOptions, n: int) -> int:
    most = n // FEWEST
    if options.bands is None:
        return min(_BANDS, most) if most > 1 else 0
    if options.bands > most:
        raise ConfigError(
            f"--bands {options.bands}: {n} subnets give fewer than {FEWEST} a band; expected at "
            f"most {most}"
        )
    return options.bands


def _judged(
    space: str, labels: Subnets, context: CostContext, judged: Sequence[Judged],
    scores: Mapping[str, Scores], failed: Mapping[str, str], options: ProxyOptions, bands: int,
) -> ProxyStudy:  # fmt: skip
    from hwnas.workflows.study_proxies.words import notes_of, verdict

    counts = {name: v for name, v in Counts(context).of(labels.archs).items() if name in BASELINES}
    gbitops = _gbitops(context, labels)
    parts = bands_of(gbitops, bands) if gbitops is not None and bands else ()
    given = [v for name, v in counts.items() if name.startswith("log")]
    trial = Trial(
        labels.iou, np.stack(given, axis=1) if given else np.empty((len(labels), 0)), parts,
        options.top, options.bootstrap, options.seed,
    )  # fmt: skip
    models = {one.name: one for one in judged if one.name in scores}
    signed = {n: quality_sign(one.model) * scores[n].values for n, one in models.items()}
    found = judge(trial, signed | counts, tuple(counts))
    rows = [
        ProxyRow(
            name, one.spec, one.model.unit, _better(one.model), False, scores[name].seconds,
            scores[name].values, found[name], verdict(name, found[name], found),
        )
        for name, one in models.items()
    ]  # fmt: skip
    rows += [
        ProxyRow(name, "", "", "higher", True, None, values, found[name], "")
        for name, values in counts.items()
    ]
    notes = notes_of(labels, counts, gbitops is not None, bands)
    return ProxyStudy(space, labels, gbitops, options, tuple(rows), failed, notes)


def _better(model: object) -> str:
    return "higher" if quality_sign(model) > 0 else "lower"


def _gbitops(context: CostContext, labels: Subnets) -> Float | None:
    """BitOPs of the encoder; those of the file where the space cannot be lowered; None without."""
    try:
        return build("bitops", context).evaluate(labels.archs)
    except SpaceError:
        return None if np.isnan(labels.gbitops).any() else labels.gbitops
