"""From a configuration to the live things that it names, with every problem found at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from hwnas.config import SearchConfig, load_config, make_config
from hwnas.cost import (
    CostContext,
    CostModel,
    build,
    declared_needs,
    is_ready,
    missing_needs,
)
from hwnas.device import DeviceProfile, find
from hwnas.errors import ConfigError, HwnasError
from hwnas.registry import cost_models
from hwnas.search import Limit, Objective, Problem, executed_names, refinement_of
from hwnas.space import SearchSpace, load_space
from hwnas.workflows.context import make_context

__all__ = ["Resolved", "evaluations_of", "resolve", "resolve_config"]

# What a space without objectives of its own is searched by.
_DEFAULT_OBJECTIVES = ("latency", "bitops")
# How many designs to evaluate where each runs a network, and where each is computed: then it is the
# scoring of the front that takes the time, and the front grows with the search.
_EVALUATIONS_BY_NETWORK, _EVALUATIONS = 360, 1000


@dataclass(frozen=True)
class Resolved:
    """A search that is ready to run.

    `rescore` is the cost model that scores the final front once more, with more care; None where
    neither the configuration nor the space names one. `remarks` are what the user should know.
    `config.max_evaluations` is a number, whether the user gave one or not.
    """

    config: SearchConfig
    context: CostContext
    problem: Problem
    rescore: CostModel | None
    remarks: tuple[str, ...]

    @property
    def space(self) -> SearchSpace:
        """The space, with frozen genes frozen."""
        return self.context.space

    @property
    def device(self) -> DeviceProfile | None:
        """The device profile, in the mode that was asked for."""
        return self.context.device


def resolve_config(path: Path | None, overrides: Mapping[str, object]) -> SearchConfig:
    """Read the configuration file, if any, and lay the options of the caller over it."""
    if path is not None:
        return load_config(path, **overrides)
    return make_config("options", dict(overrides))


def resolve(
    config: SearchConfig,
    *,
    space: SearchSpace | None = None,
    device: DeviceProfile | None = None,
    plugins: Mapping[str, object] | None = None,
) -> Resolved:
    """Load space, device and cost models.

    Args:
        config: names of everything.
        space: stands for `config.space` where the caller holds a space already.
        device: stands for `config.device` likewise.
        plugins: cost models (classes or objects) that the caller holds, by the name in `config`.

    Raises:
        HwnasError: the one problem found, in its own words and with its own exit code.
        ConfigError: listing all problems, where there are several.
    """
    problems = _Problems()
    with problems.noted():
        device = device or (None if config.device is None else find(config.device))
    with problems.noted():
        space = load_space(space or config.space, freeze=config.freeze)
    if space is None:
        raise problems.gathered()
    limits = []
    for text in config.limits:
        with problems.noted():
            limits.append(Limit.parse(text, on=config.limit_on))
    context = make_context(
        space, device=device, supernet=config.supernet, data=config.data, seed=config.seed
    )
    wanted, remarks = _wanted(config, context, plugins or {})
    rescore = config.rescore or space.extras.get("rescore")
    limited = [limit.name for limit in limits if limit.name in cost_models.names()]
    models = _Models(context, config, plugins or {}, problems)
    # A cost model that the user brings takes the place of a default of the same name.
    for spec in (*config.costs, *wanted, *limited, *([rescore] if rescore else [])):
        models.add(spec)
    models.check_options()
    problem = None
    if not models.failed:
        with problems.noted():
            problem = _problem(space, models, (*wanted, *config.costs), limits, config)
    if problem is None or problems.found:
        raise problems.gathered()
    remarks = (*remarks, *_refined(problem))
    if config.max_evaluations is None:
        config = config.model_copy(update={"max_evaluations": _usual_evaluations(problem)})
    return Resolved(config, context, problem, models.get(rescore) if rescore else None, remarks)


def evaluations_of(live: Resolved) -> int:
    """How many designs the search will evaluate at most."""
    if live.config.algorithm == "exhaustive":
        return live.space.size()
    return min(live.config.max_evaluations or _EVALUATIONS, live.space.size())


def _usual_evaluations(problem: Problem) -> int:
    executed = executed_names(problem)
    needs = {n for c in problem.columns if c.name in executed for n in declared_needs(c.model)}
    return _EVALUATIONS_BY_NETWORK if "supernet" in needs else _EVALUATIONS


class _Problems:
    """Gathers errors, so that the user sees all of them at once."""

    def __init__(self) -> None:
        self.found: list[HwnasError] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        try:
            yield
        except HwnasError as error:
            self.found.append(error)

    def gathered(self) -> HwnasError:
        if len(self.found) == 1:
            return self.found[0]
        lines = ["  " + str(error).replace("\n", "\n  ") for error in self.found]
        return ConfigError("\n".join([f"{len(self.found)} problems", *lines]))


@dataclass
class _Models:
    """Cost models by their own name, each built once."""

    context: CostContext
    config: SearchConfig
    plugins: Mapping[str, object]
    problems: _Problems
    by_name: dict[str, CostModel] = field(default_factory=dict)
    by_spec: dict[str, CostModel] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def add(self, spec: str) -> None:
        if spec in self.by_spec or spec in self.by_name:
            return
        options = self.config.options.get(spec, {})
        self.failed.append(spec)
        with self.problems.noted():
            model = build(self.plugins.get(spec, spec), self.context, **options)
            self.by_spec[spec] = model
            self.by_name.setdefault(model.name, model)
            self.failed.remove(spec)

    def get(self, name: str) -> CostModel:
        return self.by_name[name] if name in self.by_name else self.by_spec[name]

    def check_options(self) -> None:
        known = {*self.by_spec, *self.by_name}
        for name in self.config.options:
            if name not in self.by_spec and not self.failed:
                near = get_close_matches(name, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else "."
                self.problems.found.append(
                    ConfigError(
                        f"options.{name}: this search has no cost model of that name{hint} "
                        f"It has: {', '.join(sorted(known))}"
                    )
                )


def _wanted(
    config: SearchConfig, context: CostContext, plugins: Mapping[str, object]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cost models to optimize besides `config.costs`, and remarks on the choice.

    A space names each of its objectives, or several to take the first that is ready of.
    """
    if config.objectives:
        return config.objectives, ()
    own: Sequence[str | Sequence[str]] = context.space.extras.get("objectives") or ()
    if not own and config.costs:
        return (), ()
    wanted: list[str] = []
    left: list[str] = []
    for entry in own or _DEFAULT_OBJECTIVES:
        names = (entry,) if isinstance(entry, str) else tuple(entry)
        loaded = {name: _loaded(name, plugins) for name in names}
        name = next((n for n in names if is_ready(loaded[n], context)), names[-1])
        (left if "device" in missing_needs(loaded[name], context) else wanted).append(name)
    remark = f"without --device {' and '.join(left)} cannot be estimated: left out"
    return tuple(wanted), (remark,) if left else ()


def _loaded(name: str, plugins: Mapping[str, object]) -> object:
    """A cost model's class, to read what it declares; building it says what is wrong with it."""
    try:
        return plugins.get(name) or cost_models.load(name)
    except HwnasError:
        return None


def _refined(problem: Problem) -> tuple[str, ...]:
    """What the user should know of real evaluations during the search."""
    found = [(column, refinement_of(column.model)) for column in problem.columns]
    return tuple(
        f"{column.name} is predicted, and up to {plan.evaluations} designs are evaluated by "
        f"{plan.real.name} to learn from{_noted(plan.real)}"
        for column, plan in found
        if plan is not None
    )


def _noted(model: CostModel) -> str:
    note = str(getattr(model, "note", ""))
    return f" ({note})" if note else ""


def _problem(
    space: SearchSpace,
    models: _Models,
    wanted: Sequence[str],
    limits: Sequence[Limit],
    config: SearchConfig,
) -> Problem:
    objectives = {models.get(spec).name: models.get(spec) for spec in wanted}
    if config.objectives:
        # With explicit objectives a further cost model is for limits and for the record.
        chosen = {models.get(spec).name for spec in config.objectives}
        objectives = {name: model for name, model in objectives.items() if name in chosen}
    named = {limit.name for limit in limits} | {models.get(spec).name for spec in config.costs}
    observed = [m for name, m in models.by_name.items() if name in named - objectives.keys()]
    return Problem(
        space,
        tuple(map(Objective.of, objectives.values())),
        tuple(limits),
        tuple(map(Objective.of, observed)),
    )
