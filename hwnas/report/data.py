"""What a report shows, as one frozen value that the workflow fills from a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hwnas.cost.matrices import CostMatrices
from hwnas.records import Evaluation, Verification
from hwnas.records.exact import ExactStart
from hwnas.report.masks import MaskPictures

__all__ = [
    "DeviceFigure",
    "GeneLike",
    "HypervolumeTrace",
    "LimitLike",
    "ReportData",
    "ReportedCost",
    "Rescoring",
]


class GeneLike(Protocol):
    """What the report reads of a gene; `hwnas.space` genes have it."""

    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def options(self) -> Sequence[str | int | float | bool]: ...
    @property
    def ordered(self) -> bool: ...


class LimitLike(Protocol):
    """What the report reads of a limit; `hwnas.search` limits have it."""

    @property
    def name(self) -> str: ...
    @property
    def op(self) -> str: ...
    @property
    def bound(self) -> float: ...
    @property
    def on(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedCost:
    """One cost model of the run: an objective, or a cost that only a limit or a table needs.

    Attributes:
        name: as in the config; the key of `Evaluation.values`.
        unit: of the recorded values, empty for a ratio.
        direction: which way is better; values are never negated.
        fidelity: what kind of number it is, in words; the part before the first parenthesis
            is repeated wherever a value is shown: `estimated (roofline, no measurements yet)`.
        note: what else belongs to the number: batch size, prompts, images it was computed on.
        is_objective: whether the search optimized it.
    """

    name: str
    unit: str
    direction: Literal["min", "max"]
    fidelity: str = ""
    note: str = ""
    is_objective: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HypervolumeTrace:
    """Hypervolume after some numbers of evaluations; both tuples have the same length."""

    label: str
    evaluations: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescoring:
    """A quality computed again for the final designs, with more care than during the search.

    `values` maps an arch id to the value and its standard error (None where there is none).
    """

    name: str
    unit: str
    direction: Literal["min", "max"]
    note: str
    values: Mapping[str, tuple[float, float | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFigure:
    """A figure of the device profile that the result relies on.

    `value` has its unit; `status` is verified, derived, recalled or fitted.
    """

    name: str
    value: str
    status: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything a report shows; plain values that need neither supernet nor search to read.

    Attributes:
        space_size: number of distinct architectures; a bound where `size_is_exact` is false.
        device_key: `id:mode` of the device profile, None for a search without a device.
        evaluations: every evaluation of the run in order, failures included.
        front: arch ids of the final front, each with an "ok" evaluation.
        selected: label -> arch id of designs to show first (`knee`, ...), all on the front;
            where it is empty, the report takes the best of each objective and a balanced one.
        references: label -> a design that nobody searched for (`largest`, `uniform 8 bit at 512`).
        baselines: label -> designs another method found (the front of a random search).
        reference_point: of the hypervolume, value by objective, in natural signs.
        genes: of the space, in its order; empty where the space cannot be loaded any more.
        config: the resolved config, as the text of the file that repeats the run.
        notes: sentences a reader must not miss (the run was interrupted, a limit is not met).
        verified: designs that were measured on the device after the search.
        exact: designs of the exact front that the search began with, and how far it ended from it.
        matrices: what each group costs at each option, of cost models that are such sums.
        masks: what some designs of the front make of some images, or why that is not shown.

    Raises:
        ValueError: no objective, a name twice, an id of the front without an evaluation that has
            every objective, or a trace whose two tuples differ in length.
    """

    title: str
    command: str
    config: str
    space_name: str
    space_size: int
    costs: tuple[ReportedCost, ...]
    evaluations: tuple[Evaluation, ...]
    front: tuple[str, ...]
    size_is_exact: bool = True
    device_key: str | None = None
    device_name: str = ""
    limits: Sequence[LimitLike] = ()
    selected: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, Evaluation] = field(default_factory=dict)
    baselines: Mapping[str, Sequence[Evaluation]] = field(default_factory=dict)
    hypervolume: tuple[HypervolumeTrace, ...] = ()
    reference_point: Mapping[str, float] = field(default_factory=dict)
    genes: Sequence[GeneLike] = ()
    rescorings: tuple[Rescoring, ...] = ()
    device_figures: tuple[DeviceFigure, ...] = ()
    seeds: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    verified: Verification | None = None
    exact: ExactStart | None = None
    matrices: tuple[CostMatrices, ...] = ()
    masks: MaskPictures | None = None

    def __post_init__(self) -> None:
        names = [cost.name for cost in self.costs]
        if not self.objectives or len(set(names)) != len(names):
            raise ValueError(f"costs {names}: at least one objective, no name twice")
        known = {evaluation.arch_id for evaluation in self.succeeded}
        unknown = [arch for arch in (*self.front, *self.selected.values()) if arch not in known]
        if unknown:
            raise ValueError(f"no evaluation that succeeded for {unknown[:5]}")
        for design in self.front_designs:
            if not all(cost.name in design.values for cost in self.objectives):
                raise ValueError(f"{design.arch_id} is on the front and lacks an objective")
        for trace in self.hypervolume:
            if len(trace.evaluations) != len(trace.values):
                raise ValueError(f"hypervolume of {trace.label}: lengths differ")

    @property
    def objectives(self) -> tuple[ReportedCost, ...]:
        """The costs that the search optimized, in their order."""
        return tuple(cost for cost in self.costs if cost.is_objective)

    @property
    def succeeded(self) -> tuple[Evaluation, ...]:
        """Evaluations with status "ok"."""
        return tuple(e for e in self.evaluations if e.status == "ok")

    @property
    def failed(self) -> tuple[Evaluation, ...]:
        """Evaluations with status "failed"."""
        return tuple(e for e in self.evaluations if e.status == "failed")

    @property
    def front_designs(self) -> tuple[Evaluation, ...]:
        """Evaluations of the front, in the front's order."""
        found = {evaluation.arch_id: evaluation for evaluation in self.succeeded}
        return tuple(found[arch_id] for arch_id in self.front)
