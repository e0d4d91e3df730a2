"""From a configuration to the live things that it names, with every problem found at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from hwnas.config import SearchConfig, load_config, make_config
from hwnas.cost import CostContext, CostModel, build
from hwnas.device import DeviceProfile, find
from hwnas.errors import ConfigError, HwnasError
from hwnas.registry import cost_models
from hwnas.search import Limit, Objective, Problem
from hwnas.space import SearchSpace, load_space
from hwnas.workflows.context import make_context

__all__ = ["Resolved", "evaluations_of", "resolve", "resolve_config"]

# What a space without objectives of its own is searched by, and what needs a device.
_DEFAULT_OBJECTIVES = ("latency", "bitops")
_NEED_DEVICE = frozenset({"latency", "energy"})


@dataclass(frozen=True)
class Resolved:
    """A search that is ready to run.

    `rescore` is the cost model that scores the final front once more, with more care; None where
    neither the configuration nor the space names one. `remarks` are what the user should know.
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
    wanted, remarks = _wanted(config, space)
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
    return Resolved(config, context, problem, models.get(rescore) if rescore else None, remarks)


def evaluations_of(live: Resolved) -> int:
    """How many designs the search will evaluate at most."""
    if live.config.algorithm == "exhaustive":
        return live.space.size()
    return min(live.config.max_evaluations, live.space.size())


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


def _wanted(config: SearchConfig, space: SearchSpace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cost models to optimize besides `config.costs`, and remarks on the choice."""
    if config.objectives:
        return config.objectives, ()
    own: Sequence[str] = space.extras.get("objectives") or ()
    if not own and config.costs:
        return (), ()
    own = own or _DEFAULT_OBJECTIVES
    left = [name for name in own if config.device is None and name in _NEED_DEVICE]
    remark = f"without --device {' and '.join(left)} cannot be estimated: left out"
    return tuple(name for name in own if name not in left), (remark,) if left else ()


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
