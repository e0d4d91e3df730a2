"""What every group of a supernet costs at each of its options, and whether that is so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.cost import CostContext, CostModel, build
from hwnas.cost.matrices import ErrorMatrix, Matrices, Rescalable, error_matrices
from hwnas.cost.remembering import Records
from hwnas.errors import ConfigError, CostError
from hwnas.space import SearchSpace, load_space
from hwnas.workflows.context import make_context
from hwnas.workflows.cost_fingerprint import fingerprint_of, named_settings, space_settings
from hwnas.workflows.sensitivity.check import SensitivityCheck, check_sensitivity
from hwnas.workflows.study_memory import KeptCost, keep_inside, open_records, refuse_folder
from hwnas.workflows.watch import Silent, Watch

__all__ = ["SensitivityOptions", "SensitivityStudy", "study_sensitivity"]


@dataclass(frozen=True)
class SensitivityOptions:
    """How sensitivities are made and checked.

    Attributes:
        cost: A cost model with matrices: a name, a spec, a class or a finished model.
        against: The cost that groups and plans are measured by, likewise; None measures nothing.
        top: Share of the groups that are measured.
        plans: Plans that are measured, the exact optimum among them.
        options: Options of cost models by their name.
        freeze: Genes that keep one value.
        seed: Of data and plans.

    Raises:
        ConfigError: a number makes no sense.
    """

    cost: str | type | CostModel = "sensitivity"
    against: str | type | CostModel | None = "iou"
    top: float = 0.2
    plans: int = 10
    options: Mapping[str, Mapping[str, Any]] | None = None
    freeze: Mapping[str, Any] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.top <= 1 or self.plans < 3:
            raise ConfigError(
                f"top={self.top}, plans={self.plans}; expected a share above 0 and 3 plans or more"
            )


@dataclass(frozen=True)
class SensitivityStudy:
    """What a study found; `groups` as the cost model gives them, in `unit`."""

    space: str
    cost: str
    unit: str
    note: str
    groups: tuple[Mapping[str, Any], ...]
    check: SensitivityCheck | None
    notes: tuple[str, ...]

    @property
    def matrices(self) -> list[ErrorMatrix]:
        """The same as tables of groups with equal options."""
        return error_matrices(self.groups)

    def sentences(self) -> list[str]:
        """What a reader must not miss."""
        return [*self.notes, *(self.check.sentences(self.cost) if self.check is not None else ())]


def study_sensitivity(
    space: str | SearchSpace = "sam-vit-t",
    *,
    supernet: str | Path | None = None,
    data: str | Path | None = None,
    options: SensitivityOptions | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    watch: Watch | None = None,
) -> SensitivityStudy:
    """Make the matrices of a space, measure the top groups and some plans, and write both.

    Args:
        space: Name or file, or the space; a free resolution is held at its largest.
        supernet: Name or file; by default the space's own.
        data: Folder of images and masks; by default the embedded picture.
        options: Everything else.
        out: Folder for `tables.json`, which `--set cost.sensitivity.tables=FILE` reads, with the
            scale if one was found; `matrices.csv`, `sensitivity.md` and `sensitivity.json`; and
            `measurements.jsonl`, one line for each loss and each image of the errors, as soon as it
            is measured.
        resume: Go on in `out`; more groups and plans may be added.
        watch: Told where the study stands.

    Raises:
        ConfigError: `resume` has no folder.
        CostError: a cost model does not fit.
        RunError: the folder exists, was begun with other options, weights or images, or cannot be
            written.
        Interrupted: Ctrl-C; what was measured is saved.
        HwnasError: space, supernet or data cannot be loaded.
    """
    options, watch = options or SensitivityOptions(), watch or Silent()
    refuse_folder(out, resume=resume)
    live, notes = _held(load_space(space, freeze=dict(options.freeze or {})))
    context = make_context(
        live, supernet=None if supernet is None else str(supernet),
        data=None if data is None else str(data), seed=options.seed,
    )  # fmt: skip
    model = _built(options.cost, context, options)
    if not isinstance(model, Matrices):
        raise CostError(f"{model.name} has no matrices; name a cost model such as sensitivity")
    truth = None if options.against is None else _built(options.against, context, options)
    with open_records(
        out, lambda: _settings(context, options, model, truth), resume=resume
    ) as records:
        keep_inside({"cost": model} | ({} if truth is None else {"against": truth}), records)
        check, model = _measured(context, model, truth, options, records, watch)
        study = _study_of(live.name, model, check, notes)
        if out is not None:
            from hwnas.workflows.sensitivity.files import write_sensitivities

            write_sensitivities(study, model, Path(out))
    return study


def _measured(
    context: CostContext, model: CostModel, truth: CostModel | None, options: SensitivityOptions,
    records: Records, watch: Watch,
) -> tuple[SensitivityCheck | None, CostModel]:  # fmt: skip
    """The check, if there is a truth, and the model scaled by what it found."""
    watch.begin(f"measuring {model.name}", None)
    if isinstance(model, Matrices):
        model.matrices()
    if truth is None:
        return None, model
    check = check_sensitivity(
        context, model, KeptCost(truth, context.space, records, "loss"), build("bitops", context),
        top=options.top, plans=options.plans, records=records, watch=watch,
    )  # fmt: skip
    if check.scale is not None and isinstance(model, Rescalable):
        model = model.rescaled(check.scale, unit=check.unit, against=check.against)
    return check, model


def _study_of(
    space: str, model: Any, check: SensitivityCheck | None, notes: tuple[str, ...]
) -> SensitivityStudy:
    note = str(getattr(model, "note", ""))
    groups = tuple(model.matrices())
    return SensitivityStudy(space, model.name, model.unit, note, groups, check, notes)


def _settings(
    context: CostContext, options: SensitivityOptions, model: CostModel, truth: CostModel | None
) -> dict[str, Any]:
    """What decides the values that are kept; `top` and `plans` say of which networks."""
    found = {"study": "sensitivity", **space_settings(context.space), "seed": options.seed}
    for name, spec, built in (("cost", options.cost, model), ("against", options.against, truth)):
        if built is not None:
            own = fingerprint_of(built, spec, _own(spec, options), context)
            found |= named_settings(name, own)
    return found


def _own(spec: object, options: SensitivityOptions) -> Mapping[str, Any]:
    return (options.options or {}).get(spec, {}) if isinstance(spec, str) else {}


def _built(spec: object, context: CostContext, options: SensitivityOptions) -> CostModel:
    return build(spec, context, **_own(spec, options))


def _held(space: SearchSpace) -> tuple[SearchSpace, tuple[str, ...]]:
    """The space at one resolution: sensitivities do not compare resolutions."""
    free: Sequence[Any] = [
        g for g in space.genes if g.role == "resolution" and len(g.options) > 1
    ]  # fmt: skip
    if not free:
        return space, ()
    values = {gene.name: gene.options[-1] for gene in free}
    said = ", ".join(f"{name}={value}" for name, value in values.items())
    return space.freeze(values), (f"held at {said}; another with --set freeze.NAME=VALUE",)
