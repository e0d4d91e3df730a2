"""The cost models that a study of proxies judges, by name, and what their values depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from hwnas.cost import CostContext, CostModel, build, declared_needs, missing_needs
from hwnas.cost.proxies import DEPTH, LOG_MACS, LOG_PARAMS
from hwnas.errors import ConfigError, DataError
from hwnas.records import EvaluatedSubnet, read_subnets
from hwnas.workflows.cost_fingerprint import fingerprint_of, weights_of
from hwnas.workflows.study_proxies.subnets import Subnets

__all__ = ["BASELINES", "Judged", "build_judged", "check_weights", "learned_from"]

BASELINES = (LOG_PARAMS, LOG_MACS, DEPTH)
_HOW = {
    "device": "--device NAME", "supernet": "--supernet FILE, or a space that names one",
    "data": "--data DIR", "store": "a store of measurements",
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A cost model under the name by which the study calls it."""

    name: str
    spec: str
    options: Mapping[str, Any]
    model: CostModel
    context: CostContext

    @property
    def needs(self) -> tuple[str, ...]:
        """What of the context its values depend on."""
        return declared_needs(self.model)

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that it reads, as far as it says."""
        return tuple(map(Path, getattr(self.model, "input_files", ())))

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What its values depend on, as JSON: equal fingerprints, equal values."""
        return fingerprint_of(self.model, self.spec, self.options, self.context)


def build_judged(
    specs: Sequence[str], context: CostContext, options: Mapping[str, Mapping[str, Any]]
) -> list[Judged]:
    """Build each cost model of `[LABEL=]SPEC`; `options` are by label, or by spec without one.

    Raises:
        PluginError: a cost model is not found, or refuses its options.
        ConfigError: a name is used twice, options are of nothing, or needs are not met.
    """
    found: list[Judged] = []
    problems = []
    for text in specs:
        label, equals, spec = text.partition("=")
        own = dict(options.get(label, {}))
        model = build(spec if equals else text, context, **own)
        name = label if equals else model.name
        if name in (*BASELINES, *(other.name for other in found)):
            problems.append(
                f"--costs {text}: {name!r} is taken; give it another name as OTHER={spec or text}"
            )
        missing = missing_needs(model, context)
        if missing:
            problems.append(f"{name} needs {', '.join(_HOW.get(n, n) for n in missing)}")
        found.append(Judged(name, spec if equals else text, own, model, context))
    problems += _unknown_options(options, [text.partition("=")[0] for text in specs])
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def check_weights(judged: Sequence[Judged], subnets: Subnets) -> None:
    """Refuse to judge proxies of one supernet by the quality of another's subnets.

    Raises:
        DataError: the file says that its subnets are of other weights.
    """
    reading = next((one for one in judged if "supernet" in one.needs), None)
    if reading is None or not subnets.supernets:
        return
    own = weights_of(reading.context)
    if own is not None and set(subnets.supernets) != {own}:
        raise DataError(
            f"{subnets.source}: subnets of other weights ({', '.join(subnets.supernets)}) than "
            f"those that {reading.name} would look at ({own}); name their supernet with "
            "--supernet, or evaluate subnets of this one with `hwnas evaluate --archs`"
        )


def learned_from(judged: Sequence[Judged], subnets: Subnets) -> tuple[str, ...]:
    """Say of each cost model how many of the subnets that judge it it has learned from."""
    found = []
    for one in judged:
        known = {row.arch_id for path in one.files for row in _rows(path)}
        n = len(known.intersection(subnets.archs.ids))
        if n:
            found.append(
                f"{one.name} has learned from {n} of these {len(subnets)} subnets: of others it "
                "knows less"
            )
    return tuple(found)


def _rows(path: Path) -> tuple[EvaluatedSubnet, ...]:
    try:
        return read_subnets(path)
    except DataError:  # a file of something else, or one that its reader will complain of
        return ()


def _unknown_options(options: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    problems = []
    for name in options:
        if name not in labels:
            near = get_close_matches(name, labels, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            problems.append(
                f"--set cost.{name}: the study has no cost model of that name{hint}; it has "
                f"{', '.join(labels) or 'none'}"
            )
    return problems
