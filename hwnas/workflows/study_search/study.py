"""What a search by a proxy is worth: NSGA-II has it for its quality, then quality is measured.

Source: the project's specification of cost models, section 8.4, step 6. A search visits the top and
its edges, where a proxy that orders random subnets well may be wrong. So each proxy, and each count
of the network as a baseline, searches by itself with the same seed and evaluations; at the same
BitOPs budgets its best design is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hwnas.space import SearchSpace, load_space
from hwnas.workflows.context import make_context
from hwnas.workflows.cost_fingerprint import named_settings, space_settings
from hwnas.workflows.study_memory import KeptCost, keep_inside, open_records, refuse_folder
from hwnas.workflows.study_proxies.costs import Judged
from hwnas.workflows.study_search.options import ProxySearchOptions
from hwnas.workflows.study_search.result import CHANCE, ProxySearch, SearchedBy, write_search
from hwnas.workflows.study_search.searches import (
    Picks,
    Searches,
    build_cost,
    build_proxies,
    count_names,
)
from hwnas.workflows.watch import Silent, Watch

__all__ = ["search_by_proxies"]


def search_by_proxies(
    space: str | SearchSpace = "sam-vit-t",
    *,
    supernet: str | Path | None = None,
    data: str | Path | None = None,
    options: ProxySearchOptions | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> ProxySearch:
    """Search by each proxy, by each count, and by chance; look up what they found.

    Args:
        space: Name or file, or the space.
        supernet: Name or file; by default the space's own.
        data: Folder of images and masks; by default the embedded picture.
        options: Everything else.
        out: Folder for `search.json` and `search.md`, and for `measurements.jsonl`, one line each
            as soon as it is measured; nothing is written without.
        resume: Go on in `out`, with the same options.
        watch: Told where it stands.

    Raises:
        ConfigError: a label is there twice, or `resume` has no folder.
        SpaceError: the space is not lowered to layers, so that it has no BitOPs.
        CostError: a cost model does not fit.
        RunError: the folder exists, or was begun with other options, weights or images.
        Interrupted: Ctrl-C; what was measured is saved.
        HwnasError: space, supernet or data cannot be loaded.
    """
    options, watch = options or ProxySearchOptions(), watch or Silent()
    refuse_folder(out, resume=resume)
    live = load_space(space, freeze=dict(options.freeze or {}))
    context = make_context(
        live, supernet=None if supernet is None else str(supernet),
        data=None if data is None else str(data), seed=options.seed,
    )  # fmt: skip
    truth = build_cost(options.against, options.against, context, options)
    proxies, counts = build_proxies(context, options), count_names(context)
    with open_records(out, lambda: _settings(live, options, truth, proxies), resume=resume) as kept:
        keep_inside({"against": truth.model, **{one.name: one.model for one in proxies}}, kept)
        searches = Searches(context, options, kept)
        picked = _picked(searches, proxies, counts, watch)
        values = _measured(KeptCost(truth.model, live, kept, "against"), picked, watch)
        found = ProxySearch(
            live.name, truth.name, truth.model.unit, truth.model.direction,
            tuple(searches.budgets.tolist()), _rows(picked, values, {CHANCE, *counts}),
        )  # fmt: skip
        if out is not None:
            write_search(found, Path(out))
    return found


def _settings(
    space: SearchSpace, options: ProxySearchOptions, truth: Judged, proxies: Sequence[Judged]
) -> dict[str, Any]:
    found = {
        "study": "search", **space_settings(space), "budgets": options.budgets,
        "max_evaluations": options.max_evaluations, "population": options.population,
        "seed": options.seed, **named_settings("against", truth.fingerprint),
    }  # fmt: skip
    for proxy in proxies:
        found |= named_settings(f"cost.{proxy.name}", proxy.fingerprint)
    return found


def _picked(
    searches: Searches, proxies: Sequence[Judged], counts: Sequence[str], watch: Watch
) -> dict[str, Picks]:
    watch.begin("searching", len(proxies) + len(counts) + 1)
    found: dict[str, Picks] = {}
    for proxy in proxies:
        found[proxy.name] = searches.by_proxy(proxy)
        watch.advance(len(found))
    for name in counts:
        found[name] = searches.by_count(name)
        watch.advance(len(found))
    return found | {CHANCE: searches.by_chance()}


def _measured(truth: KeptCost, picked: Mapping[str, Picks], watch: Watch) -> dict[str, float]:
    """The value of every pick by its id, each measured once."""
    archs = [arch for picks in picked.values() for arch in picks.archs]
    wanted = {arch.id: arch for arch in archs if arch is not None}
    watch.begin(f"measuring {truth.name}", len(wanted))
    found = {}
    for arch_id, arch in wanted.items():
        found[arch_id] = float(truth.evaluate([arch])[0])
        watch.advance(len(found))
    return found


def _rows(
    picked: Mapping[str, Picks], values: Mapping[str, float], baselines: set[str]
) -> tuple[SearchedBy, ...]:
    """One row a search, with what its picks are worth."""
    return tuple(
        SearchedBy(
            name, name in baselines, tuple(None if a is None else a.id for a in picks.archs),
            tuple(None if a is None else values[a.id] for a in picks.archs), picks.seconds,
        )
        for name, picks in picked.items()
    )  # fmt: skip
