"""What a search by a proxy is worth: NSGA-II has it for its quality, then quality is measured.

Source: the project's specification of cost models, section 8.4, step 6. A search visits the top and
its edges, where a proxy that orders random subnets well may be wrong. So each proxy, and each count
of the network as a baseline, searches by itself with the same seed and evaluations; at the same
BitOPs budgets its best design is looked up.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.cost import CostContext, CostModel, Direction, build
from hwnas.cost.proxies import Counts, quality_sign
from hwnas.errors import ConfigError
from hwnas.records.files import explained, replace_text
from hwnas.search import Objective, Problem, run_nsga2
from hwnas.space import Arch, Archs, SearchSpace, load_space
from hwnas.workflows.context import make_context
from hwnas.workflows.watch import Silent, Watch

__all__ = ["CHANCE", "ProxySearch", "ProxySearchOptions", "SearchedBy", "search_by_proxies"]

Float = NDArray[np.float64]
CHANCE = "chance"


@dataclass(frozen=True)
class ProxySearchOptions:
    """How proxies are searched by.

    Attributes:
        costs: Cost models, each `[LABEL=]SPEC`.
        against: The cost that is looked up at the end.
        budgets: How many BitOPs budgets, evenly between the smallest and the largest network.
        max_evaluations: Designs of each search.
        population: Designs a generation.
        options: Options of cost models by label or name.
        freeze: Genes that keep one value.
        seed: Of every search.
    """

    costs: Sequence[str] = ("embedding_distortion",)
    against: str = "iou"
    budgets: int = 5
    max_evaluations: int = 360
    population: int = 40
    options: Mapping[str, Mapping[str, Any]] | None = None
    freeze: Mapping[str, Any] | None = None
    seed: int = 0


@dataclass(frozen=True)
class SearchedBy:
    """One search: its best design within each budget, and what that is worth.

    None where the search has nothing within a budget. `mean` is over all budgets.
    """

    name: str
    baseline: bool
    arch_ids: tuple[str | None, ...]
    values: tuple[float | None, ...]
    seconds: float

    @property
    def mean(self) -> float | None:
        """Mean over the budgets; None where one has no design."""
        known = [value for value in self.values if value is not None]
        return sum(known) / len(known) if len(known) == len(self.values) else None


@dataclass(frozen=True)
class ProxySearch:
    """Searches by several proxies; `budgets` in GBitOPs, values in `unit` of `against`."""

    space: str
    against: str
    unit: str
    direction: Direction
    budgets: tuple[float, ...]
    rows: tuple[SearchedBy, ...]

    def sentences(self) -> list[str]:
        """For each proxy, which baselines the search by it beats on average."""
        return [self._verdict(row) for row in self.rows if not row.baseline]

    def table(self) -> list[dict[str, object]]:
        """One row a search: what was measured within each budget, and the mean."""
        rows = []
        for row in self.rows:
            cells: dict[str, object] = {"searched by": row.name + " (baseline)" * row.baseline}
            cells |= {f"{b:.4g}": v for b, v in zip(self.budgets, row.values, strict=True)}
            cells |= {f"mean {self.unit}": row.mean, "s": row.seconds}
            rows.append(cells)
        return rows

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        rows = [asdict(row) | {"mean": row.mean} for row in self.rows]
        return asdict(self) | {"rows": rows, "sentences": self.sentences()}

    def _verdict(self, own: SearchedBy) -> str:
        if own.mean is None:
            return f"{own.name}: nothing within some budgets, so it has no mean"
        sign = 1.0 if self.direction == "max" else -1.0
        known = {r.name: sign * r.mean for r in self.rows if r.baseline and r.mean is not None}
        beaten = [name for name, mean in known.items() if sign * own.mean > mean]
        words = f"beats {', '.join(beaten)}" if beaten else "beats none of the baselines"
        figures = ", ".join(f"{name} {sign * mean:.4g}" for name, mean in known.items())
        return (
            f"a search by {own.name} ends at a mean {self.against} of {own.mean:.4g} and {words}: "
            f"{figures}"
        )


class _AsQuality:
    """A cost as something to maximize: what quality is taken to grow with."""

    unit = "quality"
    direction: Direction = "max"

    def __init__(self, name: str, of: Any) -> None:
        self.name, self._of = f"quality by {name}", of

    def evaluate(self, archs: Sequence[Arch]) -> Float:
        found: Float = self._of(archs)
        return found


def search_by_proxies(
    space: str | SearchSpace = "sam-vit-t",
    *,
    supernet: str | Path | None = None,
    data: str | Path | None = None,
    options: ProxySearchOptions | None = None,
    out: str | Path | None = None,
    watch: Watch | None = None,
) -> ProxySearch:
    """Search by each proxy, by each count, and by chance; look up what they found.

    Args:
        space: Name or file, or the space.
        supernet: Name or file; by default the space's own.
        data: Folder of images and masks; by default the embedded picture.
        options: Everything else.
        out: Folder for `search.json` and `search.md`; nothing is written without.
        watch: Told where it stands.

    Raises:
        ConfigError: a number makes no sense, or a label is there twice.
        SpaceError: the space is not lowered to layers, so that it has no BitOPs.
        CostError: a cost model does not fit.
        HwnasError: space, supernet or data cannot be loaded.
    """
    options, watch = options or ProxySearchOptions(), watch or Silent()
    if min(options.budgets, options.max_evaluations) < 1:
        raise ConfigError("budgets and max_evaluations: expected 1 or more")
    live = load_space(space, freeze=dict(options.freeze or {}))
    context = make_context(
        live, supernet=None if supernet is None else str(supernet),
        data=None if data is None else str(data), seed=options.seed,
    )  # fmt: skip
    bitops, truth = (
        build("bitops", context),
        _built(options.against, options.against, context, options),
    )
    budgets = _budgets(live, bitops, options.budgets)
    searches = _searches(context, options)
    watch.begin("searching", len(searches) + 1)
    picked: dict[str, tuple[list[Arch | None], float]] = {}
    for turn, (name, of) in enumerate(searches.items(), start=1):
        began = time.perf_counter()
        picked[name] = (
            _search(live, name, of, bitops, budgets, options),
            time.perf_counter() - began,
        )
        watch.advance(turn)
    picked[CHANCE] = _chance(live, bitops, budgets, options), 0.0
    values = _measured(truth, [a for archs, _ in picked.values() for a in archs], watch)
    rows = _rows(context, picked, values)
    found = ProxySearch(
        live.name, truth.name, truth.unit, truth.direction, tuple(budgets.tolist()), rows
    )
    if out is not None:
        _write(found, Path(out))
    return found


def _budgets(space: SearchSpace, bitops: CostModel, n: int) -> Float:
    """GBitOPs between the smallest and the largest network, evenly in their logarithm."""
    ends = np.log(bitops.evaluate(Archs.of(space, [space.smallest(), space.largest()])))
    spread: Float = np.exp(ends[0] + (np.arange(n) + 0.5) / n * (ends[1] - ends[0]))
    return spread


def _searches(context: CostContext, options: ProxySearchOptions) -> dict[str, Any]:
    """What each search maximizes, by name: the proxies, then the counts."""
    found: dict[str, Any] = {}
    counts = Counts(context)
    names = list(counts.of(context.space.archs([context.space.largest()])))
    for cost in options.costs:
        label, _, spec = cost.rpartition("=")
        model = _built(label or spec, spec, context, options)
        name = label or model.name
        if name in found or name in names or name == CHANCE:
            raise ConfigError(f"{name} is there twice; give one another name, as LABEL={spec}")
        found[name] = _signed(model)
    return found | {name: _count(counts, name) for name in names}


def _signed(model: CostModel) -> Any:
    return lambda archs: quality_sign(model) * model.evaluate(archs)


def _count(counts: Counts, name: str) -> Any:
    return lambda archs: counts.of(archs)[name]


def _built(label: str, spec: str, context: CostContext, options: ProxySearchOptions) -> CostModel:
    own = options.options or {}
    return build(spec, context, **(own.get(label) or own.get(spec) or {}))


def _search(
    space: SearchSpace, name: str, of: Any, bitops: CostModel, budgets: Float,
    options: ProxySearchOptions,
) -> list[Arch | None]:  # fmt: skip
    """The best design by the proxy within each budget."""
    quality = _AsQuality(name, of)
    problem = Problem(space, (Objective.of(quality), Objective.of(bitops)))
    front = run_nsga2(
        problem, population=options.population, seed=options.seed,
        max_evaluations=min(options.max_evaluations, space.size()),
    ).front  # fmt: skip
    return [_best(front.archs, front.values[:, 0], front.values[:, 1], b) for b in budgets]


def _chance(
    space: SearchSpace, bitops: CostModel, budgets: Float, options: ProxySearchOptions
) -> list[Arch | None]:
    """Of random designs the one that uses each budget best."""
    rng = np.random.default_rng(options.seed)
    archs = space.sample(rng, options.max_evaluations)
    spent = bitops.evaluate(archs)
    return [_best(archs, spent, spent, budget) for budget in budgets]


def _best(archs: Archs, quality: Float, spent: Float, budget: float) -> Arch | None:
    within = np.flatnonzero(spent <= budget)
    return archs[int(within[quality[within].argmax()])] if len(within) else None


def _measured(truth: CostModel, archs: Sequence[Arch | None], watch: Watch) -> dict[str, float]:
    wanted = {arch.id: arch for arch in archs if arch is not None}
    watch.begin(f"measuring {truth.name}", len(wanted))
    found = {}
    for arch_id, arch in wanted.items():
        found[arch_id] = float(truth.evaluate([arch])[0])
        watch.advance(len(found))
    return found


def _rows(
    context: CostContext, picked: Mapping[str, tuple[list[Arch | None], float]],
    values: Mapping[str, float],
) -> tuple[SearchedBy, ...]:  # fmt: skip
    """One row a search, with what its picks are worth."""
    baselines = {CHANCE, *Counts(context).of([context.space.largest()])}
    return tuple(
        SearchedBy(
            name, name in baselines, tuple(None if a is None else a.id for a in archs),
            tuple(None if a is None else values[a.id] for a in archs), seconds,
        )
        for name, (archs, seconds) in picked.items()
    )  # fmt: skip


def _write(found: ProxySearch, folder: Path) -> None:
    with explained("create", folder):
        folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.to_json(), indent=1, allow_nan=False)
    replace_text(folder / "search.json", text + "\n")
    rows = found.table()
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(v) for v in r.values()] for r in rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    words = "\n".join(f"- {sentence}" for sentence in found.sentences())
    head = f"# {found.space} searched by proxies\n\nColumns: {found.against} within GBitOPs.\n\n"
    replace_text(folder / "search.md", f"{head}{table}\n\n{words}\n")


def _cell(value: object) -> str:
    return "n/a" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
