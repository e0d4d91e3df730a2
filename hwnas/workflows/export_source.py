"""What is exported: a design of a run folder, or of a file of designs, with all that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwnas.config import SearchConfig
from hwnas.cost import CostContext, build, estimate
from hwnas.device import DeviceProfile, find
from hwnas.errors import ArchError, ConfigError, HwnasError, RunError
from hwnas.export.card import CardCost
from hwnas.export.picking import pick, read_front
from hwnas.records import RunFolder
from hwnas.records.verified import read_verified
from hwnas.search import ParetoFront
from hwnas.search.designs import Design
from hwnas.space import Arch, Archs, SearchSpace, load_space
from hwnas.supernet.sam_supernet import SamSupernet
from hwnas.workflows.arch_sources import archs_from
from hwnas.workflows.context import make_context
from hwnas.workflows.rescoring import read_rescored

__all__ = ["ExportSource", "exportable_supernet", "open_source", "space_of"]

_COSTS = ("bitops", "system_bitops", "model_size", "latency")
_FIDELITY = {
    "analytic": "an exact count",
    "estimated": "estimated, without measurements",
    "predicted": "predicted",
}


@dataclass(frozen=True)
class ExportSource:
    """One design and where it comes from.

    Attributes:
        context: Its space, the supernet and the device.
        picked: The words that picked it.
        run: Name of the run folder; None for a design out of a file.
        costs: Predicted by the run or counted here, and measured where the run was verified.
    """

    arch: Arch
    context: CostContext
    picked: str
    run: str | None
    costs: tuple[CardCost, ...]

    @property
    def space(self) -> SearchSpace:
        return self.context.space


def open_source(
    source: str | Path, *, choice: str | None = None, space: str | SearchSpace | None = None,
    supernet: str | None = None, device: str | DeviceProfile | None = None,
    data: str | None = None, seed: int = 0,
) -> ExportSource:  # fmt: skip
    """Find the design.

    Args:
        source: a run folder, or anything that `archs_from` takes, which needs a `space`.
        choice: `knee` (the default for a run), an arch id or its beginning, or limits.
        space: of designs out of a file; a run knows its own.
        supernet: file or name; the run's own by default, else the one that ships with the space.
        device: profile for latency; the run's own by default.
        data: folder of images; the run's own by default.
        seed: for `random:N`.

    Raises:
        ConfigError, ArchError, RunError, InfeasibleError: nothing, or no single design, fits.
    """
    found = space_of(source, space)
    if found is None:
        return _of_run(Path(source), choice or "knee", supernet, device, data)
    archs = archs_from(found, str(source), seed=seed)
    arch = _one(archs, choice, str(source))
    profile = find(device) if isinstance(device, str) else device
    context = make_context(found, device=profile, supernet=supernet, data=data)
    return ExportSource(arch, context, choice or str(source), None, _counted(context, arch, ()))


def space_of(source: str | Path, space: str | SearchSpace | None) -> SearchSpace | None:
    """The space of designs out of a file; None for a run folder, which knows its own.

    Raises:
        ConfigError: a run folder with a space, or anything else without.
    """
    if (Path(source) / "config.yaml").is_file():
        if space is not None:
            raise ConfigError("--space: a run folder knows its own; leave it out")
        return None
    if space is None:
        raise ConfigError(
            f"{source}: no run folder, and designs out of a file need --space; expected a folder "
            "that `hwnas search` made, or a file of designs with --space NAME"
        )
    return load_space(space)


def exportable_supernet(context: CostContext, *, by: str) -> SamSupernet:
    """The context's supernet.

    Raises:
        CostError: there is none; the message names the command `by`.
        ConfigError: it is no SAM.
    """
    supernet = context.require("supernet", by=by)
    if not isinstance(supernet, SamSupernet):
        raise ConfigError(
            f"{context.space.name}: its supernet is a {type(supernet).__name__}; only subnets of a "
            "SAM supernet can be exported"
        )
    return supernet


def _one(archs: Archs, choice: str | None, source: str) -> Arch:
    ids = [row for row, arch_id in enumerate(archs.ids) if arch_id.startswith(choice or "")]
    if len(ids) != 1:
        shown = ", ".join(archs.ids[:6])
        raise ArchError(
            f"{source}: {len(ids)} designs fit --pick {choice or '(none given)'}; expected one; "
            f"give the beginning of one of the ids {shown}"
        )
    return archs[ids[0]]


def _of_run(
    path: Path, choice: str, supernet: str | None, device: str | DeviceProfile | None,
    data: str | None,
) -> ExportSource:  # fmt: skip
    with RunFolder.open(path) as folder:
        config = SearchConfig.model_validate(folder.config)
        space = load_space(config.space, freeze=config.freeze)
        front = read_front(folder, space)
        design = pick(front, choice)
        costs = [*_predicted(front, design), *_measured(folder, design.id)]
        costs += _rescored(folder, design.id)
    named = device or config.device
    profile = find(named) if isinstance(named, str) else named
    context = make_context(
        space, device=profile, supernet=supernet or config.supernet, data=data or config.data,
        seed=config.seed,
    )  # fmt: skip
    counted = _counted(context, design.arch, [cost.name for cost in costs])
    return ExportSource(design.arch, context, choice, path.name, (*costs, *counted))


def _predicted(front: ParetoFront, design: Design) -> list[CardCost]:
    found = []
    for column in front.columns:
        lo, hi = design.intervals.get(column.name, (None, None))
        kind = _FIDELITY.get(column.fidelity, column.fidelity)
        value = design.values[column.name]
        found.append(CardCost(column.name, value, column.unit, kind, lo, hi))
    return found


def _measured(folder: RunFolder, arch_id: str) -> list[CardCost]:
    verification = read_verified(folder)
    if verification is None:
        return []
    return [
        CardCost(
            f"{verification.cost} (measured)", one.measured, verification.unit,
            f"measured by {verification.runner}, {verification.prompts} prompts",
        )
        for one in verification.measured
        if one.arch_id == arch_id and one.measured is not None
    ]  # fmt: skip


def _rescored(folder: RunFolder, arch_id: str) -> list[CardCost]:
    found = read_rescored(folder)
    if found is None or arch_id not in found.values:
        return []
    value, error = found.values[arch_id]
    lo, hi = (None, None) if error is None else (value - error, value + error)
    name = f"{found.name} (scored again)"
    return [CardCost(name, value, found.unit, "interval of one standard error", lo, hi)]


def _counted(context: CostContext, arch: Arch, known: Sequence[str]) -> tuple[CardCost, ...]:
    """Costs that the run did not ask for; what cannot be computed is left out."""
    found = []
    for name in _COSTS:
        if name in known:
            continue
        try:
            model = build(name, context)
            batch = estimate(model, Archs.of(context.space, [arch]))
        except RunError:
            raise
        except HwnasError:  # no device, or a space that counts no layers
            continue
        lo = None if batch.lo is None else float(batch.lo[0])
        hi = None if batch.hi is None else float(batch.hi[0])
        kind = _FIDELITY.get(batch.fidelity, batch.fidelity)
        found.append(CardCost(model.name, float(batch.value[0]), model.unit, kind, lo, hi))
    return tuple(found)
